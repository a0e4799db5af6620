"""Image and video UNet that share their spatial weights."""

import torch
from diffusers import UNet2DConditionModel, UNetMotionModel

from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.training.config import ImagesConfig
from storyreel.training.parts.images import build_unet
from storyreel.training.parts.motion import build_adapter, build_joint, motion_models, motion_state


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    config = ImagesConfig(
        num_steps=1, batch_size=1, learning_rate=1e-3, block_out_channels=(16, 32), num_heads=2
    )
    return build_unet(config, latent_channels=4, latent_size=8, cross_attention_dim=16).eval()


def tiny_predictor() -> SemanticMotionPredictor:
    return SemanticMotionPredictor(
        image_token_dim=12, num_tokens=5, cross_attention_dim=16, hidden_dim=16, num_layers=1
    )


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """A clip (1, C, F, H, W) and its context (F, L, D)."""
    generator = torch.Generator().manual_seed(1)
    clip = torch.randn(1, 4, 3, 8, 8, generator=generator)
    return clip, torch.randn(3, 6, 16, generator=generator)


def test_untrained_motion_modules_leave_every_frame_as_the_image_unet_makes_it() -> None:
    unet = tiny_unet()
    motion_unet = UNetMotionModel.from_unet2d(unet, build_adapter(unet)).eval()
    clip, context = inputs()
    with torch.no_grad():
        frames = motion_unet(clip, 500, encoder_hidden_states=context).sample[0].movedim(0, 1)
        images = unet(clip[0].movedim(0, 1), 500, encoder_hidden_states=context).sample
    torch.testing.assert_close(frames, images, atol=1e-4, rtol=1e-4)


def test_a_step_on_clips_moves_the_image_unet_as_well() -> None:
    modules = build_joint(tiny_unet(), tiny_predictor())
    clip, context = inputs()
    image_parameters = dict(modules["unet"].named_parameters())
    for name, parameter in image_parameters.items():
        assert modules["motion_unet"].get_parameter(name) is parameter
    modules["motion_unet"](clip, 500, encoder_hidden_states=context).sample.sum().backward()
    assert all(parameter.grad is not None for parameter in image_parameters.values())


def test_shared_weights_are_optimised_once_and_the_predictor_only_projects() -> None:
    modules = build_joint(tiny_unet(), tiny_predictor())
    trained = [name for name, p in modules.named_parameters() if p.requires_grad]
    spatial = [name for name in trained if "motion_modules" not in name]
    assert len([n for n in spatial if n.startswith("motion_unet.")]) == 0
    predictor = [name for name in trained if name.startswith("predictor.")]
    assert predictor
    assert all(".projection." in name for name in predictor)


def test_the_shipped_adapter_rebuilds_the_trained_video_unet() -> None:
    modules = build_joint(tiny_unet(), tiny_predictor()).eval()
    for name, parameter in modules["motion_unet"].named_parameters():
        if "motion_modules" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    models = motion_models(modules)
    rebuilt = UNetMotionModel.from_unet2d(models.unet, models.adapter).eval()
    state = motion_state(rebuilt)
    assert state.keys() == motion_state(modules["motion_unet"]).keys()
    clip, context = inputs()
    with torch.no_grad():
        theirs = modules["motion_unet"](clip, 500, encoder_hidden_states=context).sample
        ours = rebuilt(clip, 500, encoder_hidden_states=context).sample
    torch.testing.assert_close(ours, theirs)
