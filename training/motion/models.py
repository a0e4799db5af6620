"""The models of a run: frozen ones that encode, and those that learn.

Axes: B texts or clips, F frames, L text tokens, D cross-attention channels, N image tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler, MotionAdapter, UNetMotionModel
from torch import Tensor, nn

from storyreel.stages.models.config import PartConfig
from storyreel.stages.models.image_encoder import ImageEncoder
from storyreel.stages.models.loading import encode_prompts, load_part, load_pipeline
from storyreel.stages.motion.autoencoder import Autoencoder
from storyreel.stages.motion.frames import to_image
from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.training.motion.config import ModelsConfig, MotionTrainingConfig, Objective
from storyreel.training.parts.motion import build_adapter, motion_state
from storyreel.training.videos.reading import Pixels

DECODE_BATCH = 4


class Models:
    """A pipeline whose video UNet learns in its motion module, and an image encoder."""

    def __init__(self, config: ModelsConfig) -> None:
        """Load them; nothing of them learns yet."""
        self.pipeline = load_pipeline(config.model)
        self._config = config
        self._image_encoder = ImageEncoder(
            config.model, config.image_encoder, config.feature_extractor
        )
        self._autoencoder = Autoencoder(self.pipeline.vae, DECODE_BATCH)
        for part in (self.pipeline.unet, self.pipeline.vae, self.pipeline.text_encoder):
            part.requires_grad_(requires_grad=False)

    def encode_text(self, texts: list[str]) -> Tensor:
        """The text encoder's tokens (B, L, D)."""
        embeds = encode_prompts(self.pipeline, texts, [""] * len(texts)).prompt_embeds
        # A copy may take part in what learns; what is made for inference only may not.
        return embeds[-1].clone()

    def encode_tokens(self, frames: Pixels) -> Tensor:
        """Frames (F, H, W, 3) to the image encoder's tokens (F, N, C)."""
        return self._image_encoder.tokens(frames)

    def encode_latents(self, frames: Pixels) -> Tensor:
        """Frames (F, H, W, 3) to latents (F, c, h, w), scaled as the UNet knows them."""
        return self._autoencoder.encode(torch.stack([to_image(frame) for frame in frames]))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Latents (F, c, h, w) to frames (F, 3, H, W) in [-1, 1] on the CPU."""
        return self._autoencoder.decode(latents)

    def encode_features(self, frames: Pixels) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Frames (F, H, W, 3) to embeddings (F, E) and the tokens of every block."""
        return self._image_encoder.features(frames)

    def build_predictor(self, config: MotionTrainingConfig) -> SemanticMotionPredictor:
        """The predictor to go on from, or one for the image encoder and the UNet whose start is
        random but the same on every worker.

        Raises:
            ValueError: the one to go on from has another shape.
        """
        num_tokens, token_dim = self._image_encoder.token_shape
        shape = {
            "image_token_dim": token_dim,
            "num_tokens": num_tokens,
            "cross_attention_dim": self.pipeline.unet.config.cross_attention_dim,
            "hidden_dim": config.predictor.hidden_dim,
            "num_layers": config.predictor.num_layers,
            "num_heads": config.predictor.num_heads,
            "max_frames": config.max_frames,
        }
        if self._config.start is not None:
            return self._started(self._config.start, shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            predictor: Any = SemanticMotionPredictor(**shape)
        placed: SemanticMotionPredictor = predictor.to(self.pipeline.device)
        return placed

    def _started(self, part: PartConfig, shape: Mapping[str, int]) -> SemanticMotionPredictor:
        predictor: SemanticMotionPredictor = load_part(
            SemanticMotionPredictor, part, self._config.model
        )
        for name, wanted in shape.items():
            if (found := predictor.config[name]) != wanted:
                raise ValueError(
                    f"models.start: its {name} is {found}, must be {wanted} as the configuration,"
                    " the image encoder and the UNet say"
                )
        return predictor

    def build_video_model(self, seed: int) -> "VideoModel":
        """The video UNet; only its motion module learns."""
        part, unet = self._config.motion_adapter, self.pipeline.unet
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            adapter = (
                build_adapter(unet)
                if part is None
                else load_part(MotionAdapter, part, self._config.model)
            )
        video = UNetMotionModel.from_unet2d(unet, adapter).to(self.pipeline.device)
        video.requires_grad_(requires_grad=False)
        modules = {
            name: module for name, module in video.named_modules() if _is_motion_module(name)
        }
        for module in modules.values():
            module.requires_grad_(requires_grad=True)
        options = {} if (own := self._config.beta_schedule) is None else {"beta_schedule": own}
        scheduler = DDPMScheduler.from_config(self.pipeline.scheduler.config, **options)
        return VideoModel(unet=video, adapter=adapter, modules=modules, scheduler=scheduler)


def _is_motion_module(name: str) -> bool:
    return name.endswith("motion_modules")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoModel:
    """A `UNetMotionModel`, the motion modules in it by name, and the noise that it knows."""

    unet: Any
    adapter: Any
    """A `MotionAdapter` of the same shape."""
    modules: Mapping[str, nn.Module]
    scheduler: Any

    def learning(self) -> nn.ModuleDict:
        """The motion modules; names of modules have no dots."""
        return nn.ModuleDict({name.replace(".", "/"): one for name, one in self.modules.items()})

    def trained_adapter(self) -> Any:
        """The adapter with the weights that the motion modules have now."""
        self.adapter.load_state_dict(motion_state(self.unet))
        return self.adapter


def needed(objective: Objective) -> tuple[str, ...]:
    """The tensors of a clip that an objective reads."""
    return ("tokens",) if objective is Objective.SEMANTIC else ("tokens", "latents")
