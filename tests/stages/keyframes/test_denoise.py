"""The denoising loop of a whole story, over tiny real UNets and every scheduler."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from storyreel.stages.keyframes.config import ConsistencyConfig, KeyframesConfig
from storyreel.stages.keyframes.denoise import (
    Denoiser,
    StoryLatents,
    chunks,
    passes,
    stretches,
)
from storyreel.stages.models.attention import (
    LockStep,
    ReadReferences,
    RecordReferences,
)
from storyreel.stages.models.config import SchedulerConfig
from storyreel.stages.models.denoising import draw_noise
from storyreel.stages.models.loading import PromptEmbeds, encode_prompts
from storyreel.stages.models.schedulers import build_scheduler
from storyreel.stages.models.unet_attention import install_attention
from tests.stages.tiny import FAMILIES, Family, tiny_pipeline

SHAPE = (4, 8, 8)
BOTH = (0, 1)


@pytest.fixture(scope="module")
def pipelines() -> dict[Family, Any]:
    return {family: tiny_pipeline(family) for family in FAMILIES}


def story_of(num_panels: int, num_anchors: int = 0) -> StoryLatents:
    noise = torch.stack([draw_noise(SHAPE, 10 + i) for i in range(num_panels)])
    anchors = torch.stack([draw_noise(SHAPE, 50 + i) for i in range(max(num_anchors, 1))])
    anchors = anchors[:num_anchors]
    return StoryLatents(noise=noise, anchors=anchors, anchor_noise=0.5 * anchors, seed=5)


def config_of(consistency: dict[str, Any] | None = None, **options: Any) -> KeyframesConfig:
    given = {"width": 32, "height": 32, "num_inference_steps": 3, **options}
    return KeyframesConfig(consistency=ConsistencyConfig(**(consistency or {})), **given)


def denoise(
    pipeline: Any,
    story: StoryLatents,
    config: KeyframesConfig,
    negative: str = "bad",
    prompt: str = "panel {}",
) -> Tensor:
    embeds = embeds_of(pipeline, story, negative, prompt)
    return denoiser_of(pipeline, config)(story, embeds)


def embeds_of(
    pipeline: Any, story: StoryLatents, negative: str = "bad", prompt: str = "panel {}"
) -> PromptEmbeds:
    prompts = [""] * story.num_anchors + [prompt.format(i) for i in range(story.num_panels)]
    return encode_prompts(pipeline, prompts, [negative] * len(prompts))


def denoiser_of(pipeline: Any, config: KeyframesConfig) -> Denoiser:
    attention = install_attention(pipeline.unet, config.consistency.layers)
    scheduler = build_scheduler(config.scheduler, pipeline.scheduler)
    return Denoiser(pipeline.unet, scheduler, attention, config)


@contextmanager
def rows_of_calls(unet: Any) -> Iterator[list[int]]:
    """The rows of every call of the model inside."""
    rows: list[int] = []
    hook = unet.conv_in.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    try:
        yield rows
    finally:
        hook.remove()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++", "euler"])
@pytest.mark.parametrize("coverage", ["window", "star"])
def test_a_story_denoises_the_same_twice_with_every_family_scheduler_and_coverage(
    pipelines: dict[Family, Any], family: Family, scheduler: Any, coverage: str
) -> None:
    config = config_of(
        {"coverage": coverage, "window_size": 2, "num_references": 2},
        scheduler=SchedulerConfig(name=scheduler),
        batch_size=2,
    )
    story = story_of(5, num_anchors=1)
    first = denoise(pipelines[family], story, config)
    assert first.shape == (5, *SHAPE)
    assert first.isfinite().all()
    assert torch.equal(denoise(pipelines[family], story, config), first)


def test_without_consistency_each_panel_is_what_it_would_be_alone(
    pipelines: dict[Family, Any],
) -> None:
    config = config_of({"coverage": "none"})
    together = denoise(pipelines["sd15"], story_of(5), config)
    alone = denoise(pipelines["sd15"], story_of(1), config)
    torch.testing.assert_close(together[:1], alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("coverage", ["window", "star"])
def test_a_story_of_one_panel_is_plain(pipelines: dict[Family, Any], coverage: str) -> None:
    alone = denoise(pipelines["sd15"], story_of(1), config_of({"coverage": coverage}))
    plain = denoise(pipelines["sd15"], story_of(1), config_of({"coverage": "none"}))
    torch.testing.assert_close(alone, plain, atol=1e-4, rtol=1e-3)


def test_a_star_with_more_references_than_panels_is_all_to_all(
    pipelines: dict[Family, Any],
) -> None:
    star = config_of({"coverage": "star", "num_references": 9})
    window = config_of({"coverage": "window", "window_size": 9})
    ours = denoise(pipelines["sd15"], story_of(3), star)
    assert torch.equal(ours, denoise(pipelines["sd15"], story_of(3), window))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_batch_size_does_not_change_the_story(
    pipelines: dict[Family, Any], family: Family
) -> None:
    results = [
        denoise(
            pipelines[family],
            story_of(7, num_anchors=1),
            config_of({"coverage": "star", "num_references": 2, "end": 0.7}, batch_size=batch_size),
        )
        for batch_size in (1, 3, 8)
    ]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_stretches_hold_every_window_and_are_of_one_size(size: int) -> None:
    for num_panels, width in itertools.product(range(1, 30), range(2, size + 1)):
        found = stretches(num_panels, size, width - 1)
        assert {len(stretch) for stretch in found} == {min(size, num_panels)}
        for start in range(max(num_panels - width, 0) + 1):
            one = range(start, min(start + width, num_panels))
            assert any(set(one) <= set(stretch) for stretch in found), (num_panels, width, one)


def test_a_story_ten_times_as_long_needs_no_larger_call_of_the_model(
    pipelines: dict[Family, Any],
) -> None:
    """The memory of a window does not grow with the story."""
    config = config_of({"window_size": 2, "max_panels": 4}, num_inference_steps=1)
    with rows_of_calls(pipelines["sd15"].unet) as rows:
        for num_panels in (3, 30):
            denoise(pipelines["sd15"], story_of(num_panels, num_anchors=1), config)
    assert set(rows) == {2 * 4}  # branches of the guidance; panels, an anchor among them


@pytest.mark.parametrize(("num_panels", "num_anchors"), [(9, 2), (2, 2), (1, 3), (5, 0)])
def test_no_call_of_windows_holds_more_than_its_panels_and_reference_images(
    pipelines: dict[Family, Any], num_panels: int, num_anchors: int
) -> None:
    config = config_of({"window_size": 2, "max_panels": 4}, num_inference_steps=1)
    with rows_of_calls(pipelines["sd15"].unet) as rows:
        denoise(pipelines["sd15"], story_of(num_panels, num_anchors), config)
    assert max(rows) <= 2 * 4


@pytest.mark.parametrize("end", [1.0, 0.5])
def test_a_star_in_less_memory_is_the_same_with_one_branch_in_a_call(
    pipelines: dict[Family, Any], end: float
) -> None:
    config = config_of({"coverage": "star", "num_references": 2, "end": end})
    pipeline, story = pipelines["sd15"], story_of(6, num_anchors=1)
    usual, embeds = denoiser_of(pipeline, config), embeds_of(pipeline, story)
    expected = usual(story, embeds)
    with rows_of_calls(pipeline.unet) as rows:
        smaller = usual.smaller()(story, embeds)
    assert set(rows) == {1 + 2, 1}  # those that are read together; who reads them, one by one
    torch.testing.assert_close(smaller, expected, atol=1e-3, rtol=1e-3)
    assert torch.equal(usual(story, embeds), expected)


@pytest.mark.parametrize("branches", ["both", "positive"])
def test_where_nobody_is_read_stretches_change_nothing(
    pipelines: dict[Family, Any], branches: str
) -> None:
    options: dict[str, Any] = {"window_size": 3, "sampling_rate": 0.0, "branches": branches}
    whole = denoise(pipelines["sd15"], story_of(9, 1), config_of({**options, "max_panels": 10}))
    parts = denoise(pipelines["sd15"], story_of(9, 1), config_of({**options, "max_panels": 4}))
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-3)


def test_what_a_panel_tells_goes_on_from_stretch_to_stretch(pipelines: dict[Family, Any]) -> None:
    """Stretches of three that share one panel: after three steps the first panel moved the last."""
    config = config_of({"window_size": 2, "max_panels": 3})
    story = story_of(7)
    other = replace(story, noise=torch.cat([-story.noise[:1], story.noise[1:]]))
    first, second = (denoise(pipelines["sd15"], each, config) for each in (story, other))
    moved = (first - second).flatten(1).abs().amax(1)
    assert (moved > 0).all()
    alone = config_of({"window_size": 2, "max_panels": 3}, num_inference_steps=1)
    first, second = (denoise(pipelines["sd15"], each, alone) for each in (story, other))
    moved = (first - second).flatten(1).abs().amax(1)
    assert [bool(m > 0) for m in moved] == [True, True, True, False, False, False, False]


def test_reading_starts_and_ends_at_its_share_of_the_steps() -> None:
    config = config_of({"start": 0.25, "end": 0.75}, num_inference_steps=8)
    plans = [next(iter(passes(config, story_of(3), step, BOTH))).plan for step in range(8)]
    assert [plan is not None for plan in plans] == [False] * 2 + [True] * 4 + [False] * 2


def test_the_sampled_tokens_change_from_step_to_step() -> None:
    config = config_of()
    drawn = []
    for step in (0, 1):
        (one,) = passes(config, story_of(3), step, BOTH)
        assert isinstance(one.plan, LockStep)
        drawn.append(one.plan._positions(64))
    assert not torch.equal(*drawn)


def test_a_long_star_runs_in_calls_of_bounded_size_with_the_references_first() -> None:
    config = config_of({"coverage": "star", "num_references": 3}, batch_size=4)
    calls = list(passes(config, story_of(14, num_anchors=1), 0, BOTH))
    assert isinstance(calls[0].plan, RecordReferences)
    assert calls[0].panels == (0, 1, 2, 3)
    assert [len(call.panels) for call in calls[1:]] == [4, 4, 4]
    assert all(isinstance(call.plan, ReadReferences) for call in calls[1:])
    assert sorted({panel for call in calls for panel in call.panels}) == list(range(15))


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (0, 4, []),
        (3, 4, [(0, 1, 2)]),
        (5, 4, [(0, 1, 2), (3, 4, 4)]),
        (8, 4, [(0, 1, 2, 3), (4, 5, 6, 7)]),
    ],
)
def test_chunks_have_one_length_and_hold_every_panel(
    count: int, size: int, expected: list[tuple[int, ...]]
) -> None:
    assert chunks(range(count), size) == expected


def test_guidance_up_to_one_ignores_the_negative_prompt(pipelines: dict[Family, Any]) -> None:
    weak, strong = config_of(guidance_scale=1.0), config_of(guidance_scale=3.0)
    pipeline, story = pipelines["sdxl"], story_of(2)
    same = [denoise(pipeline, story, weak, negative=text) for text in ("bad", "ugly")]
    assert torch.equal(*same)
    different = [denoise(pipeline, story, strong, negative=text) for text in ("bad", "ugly")]
    assert not torch.equal(*different)


@pytest.mark.parametrize("coverage", ["window", "star"])
@pytest.mark.parametrize(("branches", "negative_reads"), [("both", True), ("positive", False)])
def test_guidance_leads_away_from_a_negative_branch_that_reads_as_is_configured(
    pipelines: dict[Family, Any], coverage: str, branches: str, negative_reads: bool
) -> None:
    """One step is linear in what the UNet predicts, so that it can be put together by hand."""
    consistency = {"coverage": coverage, "num_references": 2}
    alone = {"num_inference_steps": 1, "guidance_scale": 1.0}
    story, pipeline = story_of(4), pipelines["sd15"]
    read = config_of(consistency, **alone)
    away_from = read if negative_reads else config_of({"coverage": "none"}, **alone)
    positive = denoise(pipeline, story, read)
    negative = denoise(pipeline, story, away_from, prompt="bad")
    guided = config_of(
        {**consistency, "branches": branches}, num_inference_steps=1, guidance_scale=3.0
    )
    expected = negative + 3.0 * (positive - negative)
    torch.testing.assert_close(denoise(pipeline, story, guided), expected, atol=1e-3, rtol=1e-3)


def test_a_reference_image_changes_every_panel(pipelines: dict[Family, Any]) -> None:
    story = story_of(3, num_anchors=1)
    other = StoryLatents(
        noise=story.noise,
        anchors=-story.anchors,
        anchor_noise=story.anchor_noise,
        seed=story.seed,
    )
    config = config_of({"window_size": 2})
    first, second = (denoise(pipelines["sd15"], each, config) for each in (story, other))
    assert all(difference.abs().max() > 1e-4 for difference in first - second)


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++", "euler"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("negative", ["bad", None])
def test_one_panel_is_what_the_pipeline_of_diffusers_renders(
    family: Family, scheduler: Any, negative: str | None
) -> None:
    pipeline = tiny_pipeline(family)
    config = config_of(scheduler=SchedulerConfig(name=scheduler))
    ours = denoise(pipeline, story_of(1), config, negative=negative or "")
    pipeline.scheduler = build_scheduler(config.scheduler, pipeline.scheduler)
    theirs = pipeline(
        prompt="panel 0",
        negative_prompt=negative,
        latents=story_of(1).noise,
        width=32,
        height=32,
        num_inference_steps=3,
        guidance_scale=config.guidance_scale,
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("asks_for_zeros", [True, False])
def test_an_empty_negative_prompt_is_encoded_as_the_pipeline_asks_beside_one_that_is_not(
    asks_for_zeros: bool,
) -> None:
    pipeline = tiny_pipeline("sdxl")
    pipeline.register_to_config(force_zeros_for_empty_prompt=asks_for_zeros)
    ours = encode_prompts(pipeline, ["a fox", "a bear", "a cat"], ["", "bad", ""])
    assert ours.pooled is not None
    for row, (prompt, negative) in enumerate([("a fox", None), ("a bear", "bad"), ("a cat", None)]):
        with torch.inference_mode():
            theirs = pipeline.encode_prompt(prompt=prompt, negative_prompt=negative)
        expected = torch.cat([theirs[1], theirs[0]])
        torch.testing.assert_close(ours.prompt_embeds[:, row], expected, atol=1e-5, rtol=1e-4)
        expected = torch.cat([theirs[3], theirs[2]])
        torch.testing.assert_close(ours.pooled[:, row], expected, atol=1e-5, rtol=1e-4)


def test_without_consistency_a_reference_image_changes_nothing(
    pipelines: dict[Family, Any],
) -> None:
    config = config_of({"coverage": "none"})
    ours = denoise(pipelines["sd15"], story_of(3, num_anchors=1), config)
    assert torch.equal(ours, denoise(pipelines["sd15"], story_of(3), config))


def test_karras_sigmas_with_ddim_are_refused() -> None:
    with pytest.raises(ValueError, match="use_karras_sigmas"):
        SchedulerConfig(name="ddim", use_karras_sigmas=True)


def test_a_window_wider_than_a_call_of_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match="window_size: 9, allowed at most max_panels = 8"):
        ConsistencyConfig(window_size=9, max_panels=8)


def test_a_start_after_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"start: 0\.8, allowed at most end = 0\.5"):
        ConsistencyConfig(start=0.8, end=0.5)
