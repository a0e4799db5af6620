"""Tiny real diffusers pipelines with random weights, for tests that need no training."""

from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    ControlNetModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    MotionAdapter,
    SparseControlNetModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNetMotionModel,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from diffusers.models.embeddings import ImageProjection
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from storyreel.stages.motion.predictor import SemanticMotionPredictor

Family = Literal["sd15", "sd21", "sdxl"]
FAMILIES: tuple[Family, ...] = ("sd15", "sd21", "sdxl")
TEXT_WIDTH = 32
VAE_FACTOR = 4
IMAGE_SIZE = 32
PATCH_SIZE = 16
EMBEDDING_WIDTH = 16
NUM_PROMPT_TOKENS = 4
NUM_IMAGE_TOKENS = 1 + (IMAGE_SIZE // PATCH_SIZE) ** 2
MAX_FRAMES = 24


def tiny_tokenizer() -> CLIPTokenizer:
    """A byte-level CLIP tokenizer of single characters, with CLIP's 77 tokens."""
    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def tiny_text_encoder(*, with_projection: bool = False) -> Any:
    """A two-layer CLIP text encoder of width 32 for `tiny_tokenizer`."""
    tokenizer = tiny_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    kind = CLIPTextModelWithProjection if with_projection else CLIPTextModel
    return kind(config).eval()


def tiny_vae() -> AutoencoderKL:
    """A VAE with latents of a quarter of the side, 4 channels."""
    return AutoencoderKL(
        block_out_channels=(16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
    ).eval()


def tiny_unet(family: Family) -> UNet2DConditionModel:
    """A UNet with self-attention in the down, middle and up blocks, as that family has it."""
    options: dict[str, Any] = {
        "sd15": {"cross_attention_dim": TEXT_WIDTH, "attention_head_dim": 2},
        "sd21": {
            "cross_attention_dim": TEXT_WIDTH,
            "attention_head_dim": [2, 4],
            "use_linear_projection": True,
        },
        "sdxl": {
            "cross_attention_dim": 2 * TEXT_WIDTH,
            "attention_head_dim": [2, 4],
            "use_linear_projection": True,
            "transformer_layers_per_block": [1, 2],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + TEXT_WIDTH,
        },
    }[family]
    return UNet2DConditionModel(
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        **options,
    ).eval()


def shaken(model: Any) -> Any:
    """`model` with random weights everywhere: fresh motion modules and predictors do nothing."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tiny_motion_adapter() -> MotionAdapter:
    """Motion modules for the SD1.5-like UNet that really mix the frames."""
    adapter = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=MAX_FRAMES,
    )
    return shaken(adapter)


def tiny_motion_unet() -> UNetMotionModel:
    """The SD1.5-like UNet with a motion adapter, as AnimateDiff makes it."""
    return UNetMotionModel.from_unet2d(tiny_unet("sd15"), tiny_motion_adapter()).eval()


def tiny_image_encoder() -> CLIPVisionModelWithProjection:
    """A two-layer CLIP image encoder of `NUM_IMAGE_TOKENS` tokens."""
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=EMBEDDING_WIDTH,
    )
    return shaken(CLIPVisionModelWithProjection(config))


def tiny_ip_adapter(unet: Any) -> dict[str, torch.Tensor]:
    """An IP-Adapter for `unet` that reads `tiny_image_encoder`, as the published files hold it."""
    width = unet.config.cross_attention_dim
    image_proj = ImageProjection(EMBEDDING_WIDTH, width, NUM_PROMPT_TOKENS).state_dict()
    renamed = {name.replace("image_embeds", "proj"): x for name, x in image_proj.items()}
    tensors = {f"image_proj.{name}": torch.randn_like(x) for name, x in renamed.items()}
    layers = [name.removesuffix(".processor") for name in unet.attn_processors]
    for index, layer in enumerate(layers):
        if layer.endswith("attn2"):
            for kind in ("to_k", "to_v"):
                weight = unet.get_submodule(f"{layer}.{kind}").weight
                tensors[f"ip_adapter.{index}.{kind}_ip.weight"] = torch.randn_like(weight)
    return tensors


def tiny_image_processor() -> CLIPImageProcessorPil:
    """What prepares images for `tiny_image_encoder`."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def tiny_motion_predictor() -> SemanticMotionPredictor:
    """A two-block predictor that changes the interpolation."""
    predictor = SemanticMotionPredictor(
        image_token_dim=32,
        num_tokens=NUM_IMAGE_TOKENS,
        cross_attention_dim=TEXT_WIDTH,
        hidden_dim=32,
        num_layers=2,
        num_heads=2,
    )
    return shaken(predictor)


def tiny_sparse_controlnet(**options: Any) -> SparseControlNetModel:
    """A SparseCtrl for the SD1.5-like UNet that really adds to its features."""
    return shaken(
        SparseControlNetModel(
            block_out_channels=(16, 32),
            down_block_types=("CrossAttnDownBlockMotion",) * 2,
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=2,
            motion_num_attention_heads=2,
            motion_max_seq_length=MAX_FRAMES,
            **options,
        )
    )


def tiny_wan(*, version: Literal["2.1", "2.2"], in_channels: int = 36) -> WanImageToVideoPipeline:
    """A Wan image-to-video pipeline: 2.1 sees the pictures with CLIP, 2.2 has two transformers."""
    first = version == "2.1"
    seen = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )

    def transformer() -> WanTransformer3DModel:
        image = {"image_dim": 16, "pos_embed_seq_len": 2 * NUM_IMAGE_TOKENS} if first else {}
        return WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=in_channels,
            text_dim=TEXT_WIDTH,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=32,
            **image,
        ).eval()

    letters = {chr(code): code - 30 for code in range(32, 127)}
    words = Tokenizer(WordLevel({"<pad>": 0, "<unk>": 1, **letters}, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = Split("", "isolated")
    config = UMT5Config(
        vocab_size=97, d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )  # fmt: skip
    return WanImageToVideoPipeline(
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>"),  # noqa: S106
        text_encoder=UMT5EncoderModel(config).eval(),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        image_processor=tiny_image_processor() if first else None,
        image_encoder=CLIPVisionModel(seen).eval() if first else None,
        transformer=transformer(),
        transformer_2=None if first else transformer(),
        boundary_ratio=None if first else 0.9,
    )


def tiny_scheduler(family: Family) -> DDIMScheduler:
    """DDIM as the family configures it; SD2.1 predicts v."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction" if family == "sd21" else "epsilon",
    )


def tiny_pipeline(family: Family, *, seed: int = 0) -> Any:
    """A whole text-to-image pipeline with random weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            "vae": tiny_vae(),
            "text_encoder": tiny_text_encoder(),
            "tokenizer": tiny_tokenizer(),
            "unet": tiny_unet(family),
            "scheduler": tiny_scheduler(family),
        }
        if family != "sdxl":
            extra = {"safety_checker": None, "feature_extractor": None}
            return StableDiffusionPipeline(**parts, **extra, requires_safety_checker=False)
        second = tiny_text_encoder(with_projection=True)
        return StableDiffusionXLPipeline(
            **parts, text_encoder_2=second, tokenizer_2=tiny_tokenizer()
        )


def save_tiny_pipeline(folder: Path, family: Family, *, seed: int = 0) -> Path:
    """Save `tiny_pipeline` so that `load_pipeline` of the stages loads it; returns `folder`."""
    tiny_pipeline(family, seed=seed).save_pretrained(folder, safe_serialization=True)
    return folder


def save_tiny_image_prompt(folder: Path, family: Family, *, seed: int = 0) -> Path:
    """Add an IP-Adapter with its image encoder to a saved pipeline; returns `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 2)
        tensors = tiny_ip_adapter(tiny_unet(family))
        tiny_image_encoder().save_pretrained(folder / "image_encoder")
    tiny_image_processor().save_pretrained(folder / "feature_extractor")
    (folder / "image_prompt").mkdir()
    save_file(tensors, folder / "image_prompt" / "ip-adapter_pocket.safetensors")
    return folder


def save_tiny_controlnet(folder: Path, family: Family, *, seed: int = 0) -> Path:
    """Save a ControlNet for that UNet that really adds to its features; returns `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 3)
        channels = (8, 8, 16)  # two halvings, as the VAE's
        control = ControlNetModel.from_unet(
            tiny_unet(family), conditioning_embedding_out_channels=channels
        )
        for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block):
            nn.init.normal_(layer.weight, std=0.3)  # fresh ones add nothing
        nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight, std=0.3)
        control.save_pretrained(folder)
    return folder


def save_tiny_family(folder: Path, *, seed: int = 0) -> Path:
    """Save an SD1.5-like pipeline with all motion parts, laid out as the pocket model is."""
    save_tiny_pipeline(folder, "sd15", seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        tiny_motion_adapter().save_pretrained(folder / "motion_adapter")
        tiny_motion_predictor().save_pretrained(folder / "motion_predictor")
        tiny_image_encoder().save_pretrained(folder / "image_encoder")
    tiny_image_processor().save_pretrained(folder / "feature_extractor")
    return folder


def tiny_clip() -> CLIPModel:
    """Both encoders of a CLIP whose texts and pictures come into one space of 16 channels."""
    text = tiny_text_encoder(with_projection=True).config.to_dict()
    vision = tiny_image_encoder().config.to_dict()
    width = vision["projection_dim"]
    config = CLIPConfig(
        text_config={**text, "projection_dim": width}, vision_config=vision, projection_dim=width
    )
    return CLIPModel(config).eval()


def save_tiny_clip(folder: Path, *, seed: int = 0) -> Path:
    """Save `tiny_clip` with what prepares its input, in one piece as openai/clip is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tiny_clip().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    tiny_image_processor().save_pretrained(folder)
    return folder
