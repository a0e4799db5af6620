"""The motion stage on real models and real files."""

import dataclasses
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image

from storyreel.stages.models.config import ModelConfig
from storyreel.stages.motion.config import SemanticMotionConfig
from storyreel.stages.motion.frames import Pixels, to_image, to_pixels
from storyreel.stages.motion.parts import load_motion_pipeline
from storyreel.stages.motion.renderer import Transition
from storyreel.stages.motion.renderers.semantic_motion import SemanticMotionRenderer
from storyreel.stages.motion.stage import MotionConfig, MotionStage, MotionUnit, build_renderer
from storyreel.stages.output.records import Clip, Keyframe, Shot, ShotKind
from storyreel.stages.output.storage import Output, checksum
from storyreel.stages.video import read_clip
from tests.stages.tiny import MAX_FRAMES, save_tiny_pipeline

SIZE = 32
NUM_FRAMES = 6
LONGEST = (MAX_FRAMES - 1) ** 2 + 1
"""What windows of the motion adapter's length can be put together to."""


def picture(seed: int, *, width: int = SIZE, height: int = SIZE) -> Pixels:
    """A smooth random picture."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def publish(output: Path, index: int, pixels: Pixels) -> Keyframe:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    file = Output(str(output)).publish(f"keyframes/tale/{index:04d}.png", content.getvalue())
    height, width, _ = pixels.shape
    return Keyframe(
        story_id="tale",
        keyframe_index=index,
        path=file.path,
        size=file.size,
        sha256=file.sha256,
        width=width,
        height=height,
        seed=index,
    )


@pytest.fixture
def unit(tmp_path: Path) -> MotionUnit:
    shot = Shot(
        story_id="tale",
        shot_index=2,
        kind=ShotKind.MOTION,
        text="a fox runs home",
        negative_prompt="blurry",
        seed=7,
        num_frames=NUM_FRAMES,
    )
    first, last = publish(tmp_path, 2, picture(1)), publish(tmp_path, 3, picture(2))
    return MotionUnit(shot=shot, first=first, last=last, fps=8)


def with_shot(unit: MotionUnit, **changes: object) -> MotionUnit:
    return dataclasses.replace(unit, shot=dataclasses.replace(unit.shot, **changes))


def render(tmp_path: Path, config: MotionConfig, unit: MotionUnit) -> tuple[Clip, Pixels]:
    (clip,) = MotionStage(output_url=str(tmp_path), config=config)(unit)
    return clip, np.stack(list(read_clip(tmp_path / clip.path)))


def test_a_clip_begins_and_ends_with_the_very_pixels_of_its_keyframes(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    clip, frames = render(tmp_path, config, unit)
    assert frames.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    assert np.array_equal(frames[0], picture(1))
    assert np.array_equal(frames[-1], picture(2))
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(frames))
    assert clip.endpoint_jump > 0
    assert clip.endpoint_closeness > 0  # the autoencoder does not give the keyframes back exactly


def test_a_model_in_bfloat16_keeps_the_pixels_of_the_keyframes(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    model = config.model.model_copy(update={"dtype": "bfloat16"})
    _, frames = render(tmp_path, config.model_copy(update={"model": model}), unit)
    assert np.array_equal(frames[[0, -1]], np.stack([picture(1), picture(2)]))


def test_the_record_of_a_clip_says_what_lies_in_the_output(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    clip, _ = render(tmp_path, config, unit)
    file = tmp_path / "clips/tale/0002.mkv"
    assert (clip.path, clip.story_id, clip.shot_index) == ("clips/tale/0002.mkv", "tale", 2)
    assert (clip.size, clip.sha256) == (file.stat().st_size, checksum(file))
    assert (clip.num_frames, clip.width, clip.height) == (NUM_FRAMES, SIZE, SIZE)
    assert (clip.kind, clip.seed) == (ShotKind.MOTION, 7)


def test_a_shot_gives_the_same_bytes_whatever_was_rendered_before(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    stage = MotionStage(output_url=str(tmp_path), config=config)
    (clip,) = stage(unit)
    stage(with_shot(unit, seed=8, text="a bear sleeps", num_frames=4))
    assert stage(unit) == (clip,)
    assert MotionStage(output_url=str(tmp_path), config=config)(unit) == (clip,)


@pytest.mark.parametrize("change", [{"text": "a bear sleeps"}, {"seed": 8}])
def test_text_and_seed_change_the_clip(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit, change: dict[str, object]
) -> None:
    stage = MotionStage(output_url=str(tmp_path), config=config)
    assert stage(unit)[0].sha256 != stage(with_shot(unit, **change))[0].sha256


def test_no_guidance_ignores_the_negative_prompt_and_guidance_reads_it(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    other = with_shot(unit, negative_prompt="a bear")
    for scale, same in ((1.0, True), (3.0, False)):
        scaled = config.model_copy(update={"guidance_scale": scale})
        stage = MotionStage(output_url=str(tmp_path), config=scaled)
        assert (stage(unit) == stage(other)) is same


def test_a_cut_shows_both_keyframes_once(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    clip, frames = render(tmp_path, config, with_shot(unit, kind=ShotKind.CUT))
    assert (clip.num_frames, clip.endpoint_jump, clip.endpoint_closeness) == (2, 0.0, 0.0)
    assert np.array_equal(frames, np.stack([picture(1), picture(2)]))


def test_a_hold_stands_still_until_its_last_frame(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    clip, frames = render(tmp_path, config, with_shot(unit, kind=ShotKind.HOLD, num_frames=30))
    assert (clip.num_frames, clip.endpoint_jump) == (30, 0.0)
    assert all(np.array_equal(frame, picture(1)) for frame in frames[:-1])
    assert np.array_equal(frames[-1], picture(2))


def test_a_dissolve_fades_evenly_from_keyframe_to_keyframe(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    clip, frames = render(tmp_path, config, with_shot(unit, kind=ShotKind.DISSOLVE, num_frames=5))
    assert (clip.num_frames, clip.endpoint_jump) == (5, 0.0)
    assert np.array_equal(frames[[0, -1]], np.stack([picture(1), picture(2)]))
    middle = (picture(1).astype(float) + picture(2)) / 2
    assert np.abs(frames[2] - middle).max() <= 0.5


@pytest.mark.parametrize("num_frames", [3, LONGEST + 1])
def test_a_clip_that_the_models_cannot_render_is_refused_by_name(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit, num_frames: int
) -> None:
    stage = MotionStage(output_url=str(tmp_path), config=config)
    message = rf"story tale: shot 2: num_frames: {num_frames}, allowed are 4 to {LONGEST}"
    with pytest.raises(ValueError, match=message):
        stage(with_shot(unit, num_frames=num_frames))


def test_a_config_longer_than_windows_of_the_motion_adapter_reach_is_refused_at_once(
    tmp_path: Path, config: MotionConfig
) -> None:
    long = config.model_copy(update={"num_frames": LONGEST + 1})
    with pytest.raises(ValueError, match=rf"num_frames: {LONGEST + 1}.* 4 to {LONGEST}"):
        MotionStage(output_url=str(tmp_path), config=long)


@pytest.mark.parametrize("name", ["width", "height"])
def test_a_configured_size_that_the_vae_cannot_hold_is_refused_at_once(
    tmp_path: Path, config: MotionConfig, name: str
) -> None:
    odd = config.model_copy(update={"width": SIZE, "height": SIZE, name: SIZE + 2})
    with pytest.raises(ValueError, match=rf"motion\.{name}: 34, allowed are multiples of 4"):
        MotionStage(output_url=str(tmp_path), config=odd)


def test_a_model_that_needs_more_than_a_text_is_refused_at_once(
    tmp_path: Path, config: MotionConfig
) -> None:
    folder = save_tiny_pipeline(tmp_path / "sdxl", "sdxl")
    other = config.model_copy(update={"model": ModelConfig(path=str(folder))})
    with pytest.raises(ValueError, match=r"motion\.model .*sdxl: .*'text_time'.* allowed are"):
        MotionStage(output_url=str(tmp_path), config=other)


def test_one_size_of_a_clip_alone_is_refused() -> None:
    for sizes in ({"width": 64}, {"height": 64}):
        with pytest.raises(ValueError, match=r"64.*allowed are both, or none of them"):
            MotionConfig.model_validate(sizes)


def test_a_damaged_keyframe_is_refused_by_name(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    (tmp_path / unit.last.path).write_bytes(b"not what was published")
    with pytest.raises(ValueError, match=r"story tale: shot 2: keyframes/tale/0003\.png: damaged"):
        MotionStage(output_url=str(tmp_path), config=config)(unit)


def test_keyframes_of_different_sizes_are_refused(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    last = publish(tmp_path, 3, picture(2, width=SIZE + 8))
    stage = MotionStage(output_url=str(tmp_path), config=config)
    with pytest.raises(ValueError, match="shot 2: keyframes are 32 x 32 and 40 x 32 pixels"):
        stage(dataclasses.replace(unit, last=last))


def test_keyframes_that_the_vae_cannot_hold_are_refused(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    odd = [publish(tmp_path, index, picture(index, width=SIZE + 2)) for index in (2, 3)]
    stage = MotionStage(output_url=str(tmp_path), config=config)
    with pytest.raises(ValueError, match="34 x 32 pixels, both must be multiples of 4"):
        stage(dataclasses.replace(unit, first=odd[0], last=odd[1]))


def test_values_that_are_not_finite_never_become_a_clip(
    tmp_path: Path, config: MotionConfig, unit: MotionUnit
) -> None:
    stage = MotionStage(output_url=str(tmp_path), config=config)
    pipeline = stage._renderer._renderer._sampler._pipeline  # type: ignore[attr-defined]
    with torch.no_grad():
        pipeline.unet.conv_out.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"story tale: shot 2: .* not finite"):
        stage(unit)
    assert not (tmp_path / "clips").exists()


def load(config: MotionConfig) -> SemanticMotionRenderer:
    renderer = build_renderer(config)
    assert isinstance(renderer, SemanticMotionRenderer)
    return renderer


def transition() -> Transition:
    return Transition(
        first=to_image(picture(1)),
        last=to_image(picture(2)),
        text="a fox runs home",
        negative_prompt="",
        seed=7,
        num_frames=NUM_FRAMES,
    )


def test_reading_keyframes_changes_the_frames_between(config: MotionConfig) -> None:
    plain = config.model_copy(update={"renderer": SemanticMotionConfig(read_keyframes=False)})
    with_reading = load(config)([transition()])[0]
    without = load(plain)([transition()])[0]
    assert torch.equal(with_reading[[0, -1]], without[[0, -1]])
    assert (with_reading - without)[1:-1].abs().mean() > 1e-4


def test_every_frame_reads_both_keyframes_and_no_other_frame(config: MotionConfig) -> None:
    sampler = load(config)._sampler
    tokens = torch.randn(2, NUM_FRAMES * 4, 2, 8)
    with sampler._reading_keyframes(NUM_FRAMES):
        plan = sampler._attention.plan
        before = plan.attend("layer", tokens, tokens, tokens)
        for frame in range(NUM_FRAMES):
            value = tokens.clone()
            value[1, frame * 4 : (frame + 1) * 4] += 1
            change = (plan.attend("layer", tokens, tokens, value) - before).abs()
            change = change.unflatten(1, (NUM_FRAMES, 4)).amax((2, 3, 4))
            is_keyframe = frame in (0, NUM_FRAMES - 1)
            readers = range(NUM_FRAMES) if is_keyframe else [frame]
            assert change[1].nonzero().flatten().tolist() == list(readers)
            assert change[0].max() == 0


@torch.inference_mode()
def test_the_predicted_motion_leads_from_the_first_keyframe_to_the_last(
    config: MotionConfig,
) -> None:
    renderer = load(config)
    predictor, way = renderer._predictor, transition()
    torch.nn.init.zeros_(predictor.out_proj.weight)
    torch.nn.init.zeros_(predictor.out_proj.bias)
    motion = renderer._motion(way)
    keyframes = to_pixels(torch.stack([way.first, way.last]))
    ends = predictor.project(renderer._image_encoder.tokens(keyframes))
    torch.testing.assert_close(motion[0, [0, -1]], ends)


def test_without_reading_keyframes_the_unet_is_untouched(config: MotionConfig) -> None:
    plain = config.model_copy(update={"renderer": SemanticMotionConfig(read_keyframes=False)})
    pipeline = load(plain)._sampler._pipeline
    fresh = load_motion_pipeline(plain, SemanticMotionConfig())
    kinds = {name: type(p) for name, p in pipeline.unet.attn_processors.items()}
    assert kinds == {name: type(p) for name, p in fresh.unet.attn_processors.items()}


def test_keyframe_reading_that_was_lost_is_noticed(config: MotionConfig) -> None:
    renderer = load(config)
    renderer._sampler._pipeline.unet.set_attn_processor(AttnProcessor2_0())
    with pytest.raises(RuntimeError, match="replaced"):
        renderer([transition()])


def test_the_number_of_frames_decoded_at_once_does_not_show(config: MotionConfig) -> None:
    one_by_one = config.model_copy(update={"decode_batch_size": 1})
    together = load(config)([transition()])[0]
    torch.testing.assert_close(load(one_by_one)([transition()])[0], together, atol=1e-4, rtol=1e-3)


def test_a_clip_run_backwards_reads_the_keyframes_backwards(config: MotionConfig) -> None:
    forward = transition()
    backward = dataclasses.replace(forward, first=forward.last, last=forward.first)
    renderer = load(config)
    torch.testing.assert_close(renderer([backward])[0][[0, -1]], renderer([forward])[0][[-1, 0]])
