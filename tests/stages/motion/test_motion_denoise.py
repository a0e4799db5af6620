"""The denoising loop of clips, through a real video UNet."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNetMotionModel
from torch import Tensor

from storyreel.stages.models.attention import LockStep, readers
from storyreel.stages.models.unet_attention import install_attention
from storyreel.stages.motion.config import Anchor
from storyreel.stages.motion.denoise import Denoising, denoise_clips
from storyreel.stages.motion.renderers.semantic_motion import join_text_and_motion
from tests.stages.tiny import TEXT_WIDTH, tiny_motion_unet, tiny_scheduler

F, L, N, SIDE = 6, 7, 5, 8
TOLERANCE = {"atol": 2e-4, "rtol": 1e-3}


@pytest.fixture(scope="module")
def unet() -> UNetMotionModel:
    torch.manual_seed(3)
    return tiny_motion_unet()


@pytest.fixture
def fresh_unet(unet: UNetMotionModel) -> UNetMotionModel:
    copy = UNetMotionModel.from_config(unet.config)
    copy.load_state_dict(unet.state_dict())
    return copy.eval()


class Clips:
    """Random inputs of a batch of clips."""

    def __init__(self, num_clips: int, *, seed: int = 0) -> None:
        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        generator = torch.Generator().manual_seed(seed)
        self.noise = draw(num_clips, 4, F, SIDE, SIDE)
        self.keyframes = draw(num_clips, 4, 2, SIDE, SIDE)
        self.text = draw(2, num_clips, L, TEXT_WIDTH)
        self.motion = draw(num_clips, F, N, TEXT_WIDTH)

    def only(self, clip: int) -> "Clips":
        one = Clips(1)
        one.noise, one.keyframes = self.noise[[clip]], self.keyframes[[clip]]
        one.text, one.motion = self.text[:, [clip]], self.motion[[clip]]
        return one


def denoise(unet: UNetMotionModel, clips: Clips, **options: Any) -> Tensor:
    how = replace(Denoising(num_inference_steps=2, guidance_scale=3.0), **options)
    return denoise_clips(
        unet,
        DDIMScheduler.from_config(tiny_scheduler("sd15").config),
        noise=clips.noise,
        keyframes=clips.keyframes,
        conditions=join_text_and_motion(clips.text[-how.num_branches :], clips.motion),
        how=how,
    )


@pytest.mark.parametrize("anchor", list(Anchor))
def test_the_ends_of_a_clip_are_the_keyframes(unet: UNetMotionModel, anchor: Anchor) -> None:
    clips = Clips(2)
    latents = denoise(unet, clips, anchor=anchor)
    assert torch.equal(latents[:, :, [0, -1]], clips.keyframes)


def test_the_model_sees_clean_keyframes_in_every_step(unet: UNetMotionModel) -> None:
    clips, seen = Clips(2), []
    hook = unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    denoise(unet, clips, num_inference_steps=3)
    hook.remove()
    assert len(seen) == 3
    for rows in seen:
        frames = rows.view(2, 2, F, 4, SIDE, SIDE).transpose(2, 3)
        for branch in frames:
            assert torch.equal(branch[:, :, [0, -1]], clips.keyframes)


def test_noised_keyframes_are_as_noisy_as_the_step(unet: UNetMotionModel) -> None:
    clips, seen = Clips(1), []
    hook = unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    denoise(unet, clips, num_inference_steps=3, anchor=Anchor.NOISED)
    hook.remove()
    distances = [(rows[0] - clips.keyframes[0, :, 0]).abs().mean() for rows in seen]
    assert distances[0] > distances[1] > distances[2] > 0


def test_the_keyframes_decide_what_lies_between(unet: UNetMotionModel) -> None:
    clips = Clips(1)
    before = denoise(unet, clips)
    clips.keyframes = clips.keyframes.flip(2)
    assert (denoise(unet, clips) - before)[:, :, 1:-1].abs().mean() > 1e-3


def test_motion_tokens_of_a_frame_change_that_frame_most(unet: UNetMotionModel) -> None:
    clips = Clips(2)
    before = denoise(unet, clips, num_inference_steps=1)
    for frame in range(1, F - 1):
        changed = Clips(2)
        changed.motion[0, frame] += 3 * torch.randn(N, TEXT_WIDTH)
        change = (denoise(unet, changed, num_inference_steps=1) - before).abs().mean(dim=(1, 3, 4))
        assert int(change[0].argmax()) == frame
        assert change[1].max() == 0


def test_a_clip_in_a_batch_equals_the_clip_alone(unet: UNetMotionModel) -> None:
    clips = Clips(3)
    batch = denoise(unet, clips)
    for index in range(3):
        alone = denoise(unet, clips.only(index))
        torch.testing.assert_close(batch[[index]], alone, **TOLERANCE)


def test_a_clip_in_a_batch_equals_the_clip_alone_when_frames_read_keyframes(
    fresh_unet: UNetMotionModel,
) -> None:
    clips, attention = Clips(3), install_attention(fresh_unet)
    with attention.following(reading_keyframes()):
        batch = denoise(fresh_unet, clips)
        for index in range(3):
            alone = denoise(fresh_unet, clips.only(index))
            torch.testing.assert_close(batch[[index]], alone, **TOLERANCE)


def reading_keyframes() -> LockStep:
    return LockStep(readers(F, (0, F - 1)), lambda n: torch.arange(n).expand(F, -1))


def test_frames_that_read_keyframes_differ_and_branches_stay_apart(
    fresh_unet: UNetMotionModel,
) -> None:
    plain, attention = denoise(fresh_unet, Clips(1)), install_attention(fresh_unet)
    assert torch.equal(denoise(fresh_unet, Clips(1)), plain)
    with attention.following(reading_keyframes()):
        assert (denoise(fresh_unet, Clips(1)) - plain).abs().mean() > 1e-4
        positive = denoise(fresh_unet, Clips(1), guidance_scale=1.0, num_inference_steps=1)
        guided = denoise_in_branches(fresh_unet, scale=1 + 1e-7)
    torch.testing.assert_close(guided, positive, **TOLERANCE)


def denoise_in_branches(unet: UNetMotionModel, *, scale: float) -> Tensor:
    """With a scale of hardly more than 1 the negative branch runs and must not be seen."""
    return denoise(unet, Clips(1), guidance_scale=scale, num_inference_steps=1)


def test_the_loop_equals_plain_unet_calls_without_guidance(unet: UNetMotionModel) -> None:
    clips, scheduler = Clips(1), tiny_scheduler("sd15")
    scheduler.set_timesteps(2)
    rows = torch.cat([clips.text[1].expand(F, -1, -1), clips.motion[0]], dim=1)
    latents = clips.noise.clone()
    with torch.inference_mode():
        for timestep in scheduler.timesteps:
            latents[:, :, [0, -1]] = clips.keyframes
            prediction = unet(latents, timestep, encoder_hidden_states=rows).sample
            latents = scheduler.step(prediction, timestep, latents).prev_sample
    ours = denoise(unet, clips, guidance_scale=1.0)
    torch.testing.assert_close(ours[:, :, 1:-1], latents[:, :, 1:-1], **TOLERANCE)


def test_the_text_and_its_negative_both_count(unet: UNetMotionModel) -> None:
    before = denoise(unet, Clips(1))
    for branch in (0, 1):
        clips = Clips(1)
        clips.text[branch] += 1
        assert (denoise(unet, clips) - before).abs().mean() > 1e-4


def test_a_multistep_solver_starts_afresh_with_each_clip(unet: UNetMotionModel) -> None:
    scheduler = DPMSolverMultistepScheduler.from_config(tiny_scheduler("sd15").config)
    clips, how = Clips(1), Denoising(num_inference_steps=4, guidance_scale=3.0)
    for anchor in Anchor:
        anchored = replace(how, anchor=anchor)
        first, second = (
            denoise_clips(
                unet,
                scheduler,
                noise=clips.noise,
                keyframes=clips.keyframes,
                conditions=join_text_and_motion(clips.text, clips.motion),
                how=anchored,
            )
            for _ in range(2)
        )
        assert torch.equal(first, second)
        assert first.isfinite().all()
