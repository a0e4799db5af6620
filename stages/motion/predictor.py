"""The Semantic Motion Predictor of StoryDiffusion (arXiv 2405.01434, section 3.2, figure 3).

Two keyframes' image-encoder tokens become one set of tokens per frame between them, which the
video UNet reads beside the text. Tensors only: no files, no records.

Axes: B batch, F frames, N image tokens of one frame, C image token channels, H hidden channels,
D cross-attention channels.
"""

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn

NUM_FREQUENCIES = 8


def interpolate(first: Tensor, last: Tensor, num_frames: int) -> Tensor:
    """Blend linearly from one keyframe's tokens to the other's (the paper's K_1 .. K_L).

    Args:
        first: (B, N, C) tokens of the first keyframe; frame 0 of the answer.
        last: (B, N, C) tokens of the last keyframe; frame F - 1 of the answer.
        num_frames: F, at least 2.

    Returns:
        (B, F, N, C).

    Raises:
        ValueError: the shapes differ or `num_frames` is below 2.
    """
    if first.shape != last.shape:
        raise ValueError(f"first {tuple(first.shape)} and last {tuple(last.shape)} must agree")
    if num_frames < 2:
        raise ValueError(f"num_frames is {num_frames}, must be at least 2")
    weight = torch.linspace(0, 1, num_frames, device=first.device, dtype=first.dtype)
    return torch.lerp(first[:, None], last[:, None], weight[None, :, None, None])


def frame_features(num_frames: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sines and cosines of each frame's place between the keyframes, 0 to 1: (F, 2 * 8).

    Relative, so that a predictor trained on one clip length is meaningful on others.
    """
    position = torch.linspace(0, 1, num_frames, device=device, dtype=torch.float32)
    frequencies = math.pi * torch.arange(1, NUM_FREQUENCIES + 1, device=device)
    angles = position[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(dtype)


class SemanticMotionPredictor(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Transformer over the tokens of all frames of a clip, started from their interpolation.

    The paper leaves open whether attention runs over frames, tokens or both. It runs over all
    F * N tokens here: what moves is at another token in another frame, which attention along one
    axis cannot follow, and a clip of 16 frames has few tokens.

    Args:
        image_token_dim: C, the image encoder's hidden size.
        num_tokens: N, with the class token.
        cross_attention_dim: D of the video UNet.
        hidden_dim: H.
        num_layers: transformer blocks; 8 in the paper.
        num_heads: must divide `hidden_dim`.
        max_frames: longest clip that is accepted.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(  # noqa: PLR0913, PLR0917 - diffusers configs are flat
        self,
        image_token_dim: int,
        num_tokens: int,
        cross_attention_dim: int,
        hidden_dim: int,
        num_layers: int = 8,
        num_heads: int = 4,
        max_frames: int = 32,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.max_frames = max_frames
        self.in_norm = nn.LayerNorm(image_token_dim)
        self.in_proj = nn.Linear(image_token_dim, hidden_dim)
        self.frame_position = nn.Linear(2 * NUM_FREQUENCIES, hidden_dim)
        self.token_position = nn.Parameter(0.02 * torch.randn(num_tokens, hidden_dim))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                hidden_dim,
                num_heads,
                dim_feedforward=4 * hidden_dim,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(num_layers)
        )
        self.out_norm = nn.LayerNorm(hidden_dim)
        self.out_proj = nn.Linear(hidden_dim, image_token_dim)
        # An untrained predictor is the interpolation.
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)
        self.projection = nn.Sequential(
            nn.LayerNorm(image_token_dim), nn.Linear(image_token_dim, cross_attention_dim)
        )

    def forward(self, first: Tensor, last: Tensor, num_frames: int) -> Tensor:
        """Predict the image-encoder tokens of every frame of a clip.

        Args:
            first: (B, N, C) tokens of the first keyframe.
            last: (B, N, C) tokens of the last keyframe.
            num_frames: F, from 2 to `max_frames`, keyframes included.

        Returns:
            (B, F, N, C), in the image encoder's own space.

        Raises:
            ValueError: the shapes differ or `num_frames` is out of range.
        """
        if num_frames > self.max_frames:
            raise ValueError(f"num_frames is {num_frames}, must be at most {self.max_frames}")
        interpolated = interpolate(first, last, num_frames)
        features = frame_features(num_frames, device=first.device, dtype=first.dtype)
        hidden = self.in_proj(self.in_norm(interpolated))
        hidden = hidden + self.frame_position(features)[:, None] + self.token_position
        hidden = rearrange(hidden, "b f n h -> b (f n) h")
        for block in self.blocks:
            hidden = block(hidden)
        change: Tensor = self.out_proj(self.out_norm(hidden))
        return interpolated + rearrange(change, "b (f n) c -> b f n c", f=num_frames)

    def project(self, tokens: Tensor) -> Tensor:
        """Image-encoder tokens (B, F, N, C) to the paper's P_i (B, F, N, D) for cross-attention."""
        projected: Tensor = self.projection(tokens)
        return projected
