"""Subjects: where figures are, whose a token is, and what it then reads of other panels."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor

from storyreel.stages.keyframes import subjects
from storyreel.stages.keyframes.cast import Cast, cast_of, own_words, places_of
from storyreel.stages.keyframes.config import ConsistencyConfig, KeyframesConfig
from storyreel.stages.keyframes.denoise import Denoiser, StoryLatents, passes
from storyreel.stages.keyframes.masks import (
    ANYBODY,
    FIRST_PLACE,
    NOBODY,
    CrossAttentionMaps,
    attention_shares,
    coarser,
    grid_of,
    otsu,
)
from storyreel.stages.keyframes.stage import KeyframesStage
from storyreel.stages.keyframes.subjects import (
    Readable,
    ReadSubjects,
    RecordSubjects,
    SubjectLockStep,
)
from storyreel.stages.models.attention import (
    LockStep,
    Reading,
    all_to_all,
    sample_positions,
    window,
)
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.models.denoising import draw_noise
from storyreel.stages.models.loading import PromptEmbeds, encode_prompts, prompt_chunks
from storyreel.stages.models.schedulers import build_scheduler
from storyreel.stages.models.unet_attention import AttentionPlan, install_attention
from storyreel.stages.output.records import Character, CharacterBox
from storyreel.stages.units import KeyframesUnit, ReferenceImage
from tests.stages.keyframes.builders import panel_of
from tests.stages.tiny import (
    FAMILIES,
    Family,
    save_tiny_family,
    save_tiny_image_prompt,
    tiny_pipeline,
    tiny_tokenizer,
    tiny_unet,
)

N, H, D = 12, 2, 4
FOX, BEAR = 0, 1
CAST = (
    Character(name="Fox", description="a fox in a red coat", reference_image=None),
    Character(name="Bear", description="a bear in a hat", reference_image=None),
)


@pytest.fixture(scope="module")
def pipelines() -> dict[Family, Any]:
    return {family: tiny_pipeline(family) for family in FAMILIES}


def tokens_of(num_panels: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random query, key and value, (1, P, H, N, D) each."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, 1, num_panels, H, N, D, generator=generator)
    return query, key, value


def owners_of(*rows: list[int]) -> Tensor:
    """(P, N) of rows whose owners each have as many tokens."""
    return torch.tensor([[owner for owner in row for _ in range(N // len(row))] for row in rows])


def positions_of(num_panels: int, rate: float = 0.5) -> Any:
    return lambda num_tokens: sample_positions(num_panels, num_tokens, rate=rate, seed=3)


def attend(owners: Tensor, given: tuple[Tensor, Tensor, Tensor], rate: float = 0.5) -> Tensor:
    num_panels = len(owners)
    views, positions = all_to_all(num_panels), positions_of(num_panels, rate)
    return follow(SubjectLockStep(views, positions, lambda _: owners), given)


def follow(plan: AttentionPlan, given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What the panels (1, P, H, N, D) of a UNet call attend to in a layer."""
    query, key, value = (rearrange(x, "g p h n d -> g (p n) h d") for x in given)
    attended = plan.attend("layer", query, key, value)
    return rearrange(attended, "g (p n) h d -> g p h n d", p=plan.num_panels)


def densely(owners: Tensor, given: tuple[Tensor, Tensor, Tensor], rate: float) -> Tensor:
    """The same, written out as one attention over all tokens of all panels under a mask."""
    query, key, value = (x.transpose(1, 2).flatten(2, 3) for x in given)  # (1, H, P * N, D)
    sampled = torch.zeros(owners.shape, dtype=torch.bool)
    sampled.scatter_(1, positions_of(len(owners), rate)(N), value=True)
    panel = torch.arange(len(owners)).repeat_interleave(N)
    own = panel[:, None] == panel
    who = owners.flatten()
    same = (who[:, None] == who) & (who >= 0)
    same |= (who[:, None] == who) & (who <= FIRST_PLACE) & sampled.flatten()
    unmasked = ((who[:, None] == ANYBODY) | (who == ANYBODY)) & sampled.flatten()
    scores = query @ key.transpose(-1, -2) / D**0.5
    scores = scores.masked_fill(~(own | same | unmasked), -torch.inf)
    return (scores.softmax(dim=-1) @ value).unflatten(2, owners.shape).transpose(1, 2)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0])
def test_subjects_read_as_one_dense_attention_under_a_mask_says(rate: float) -> None:
    owners = owners_of([NOBODY, FOX, BEAR], [FOX, NOBODY, FOX], [ANYBODY], [BEAR, NOBODY, NOBODY])
    given = tokens_of(4)
    expected = densely(owners, given, rate)
    torch.testing.assert_close(attend(owners, given, rate), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_backgrounds_of_the_same_place_read_each_other_as_a_mask_says(rate: float) -> None:
    beach, wood = FIRST_PLACE, FIRST_PLACE - 1
    owners = owners_of(
        [beach, FOX, FOX], [FOX, beach, BEAR], [wood, FOX], [NOBODY, BEAR], [ANYBODY]
    )
    given = tokens_of(5)
    expected = densely(owners, given, rate)
    torch.testing.assert_close(attend(owners, given, rate), expected, atol=1e-5, rtol=1e-4)


def moved(owners: Tensor, panel: int, tokens: Tensor) -> Tensor:
    """Which tokens of all panels, (P, N), change when some tokens of one panel say other things."""
    query, key, value = tokens_of(len(owners))
    other_key, other_value = key.clone(), value.clone()
    other_key[:, panel, :, tokens] += 1
    other_value[:, panel, :, tokens] -= 1
    first, second = (
        attend(owners, given, rate=1.0)
        for given in ((query, key, value), (query, other_key, other_value))
    )
    return (first - second).abs().amax(dim=(0, 2, 4)) > 0


def test_a_token_outside_the_figures_reads_its_own_panel_only() -> None:
    owners = owners_of([NOBODY, FOX], [FOX, NOBODY], [NOBODY, FOX])
    changed = moved(owners, 1, torch.arange(N))
    assert changed[1].all()
    for panel in (0, 2):
        assert torch.equal(changed[panel], owners[panel] == FOX)
    background = (owners[1] == NOBODY).nonzero()[:, 0]
    changed = moved(owners, 1, background)
    assert not changed[0].any() and not changed[2].any()


def test_the_background_reads_its_own_place_and_no_other() -> None:
    beach, wood = FIRST_PLACE, FIRST_PLACE - 1
    owners = owners_of([beach, FOX], [FOX, beach], [wood, FOX], [NOBODY, FOX])
    background = (owners[1] == beach).nonzero()[:, 0]
    changed = moved(owners, 1, background)
    assert torch.equal(changed[0], owners[0] == beach)
    assert not changed[2].any() and not changed[3].any()


def test_two_characters_never_read_each_other() -> None:
    owners = owners_of([NOBODY, FOX, BEAR], [BEAR, NOBODY, FOX], [BEAR, BEAR, NOBODY])
    for panel, who in itertools.product(range(2), (FOX, BEAR)):
        tokens = (owners[panel] == who).nonzero()[:, 0]
        changed = moved(owners, panel, tokens)
        for other in {0, 1, 2} - {panel}:
            assert torch.equal(changed[other], owners[other] == who)


def test_a_panel_that_nobody_is_in_reads_and_is_read_whole() -> None:
    owners = owners_of([NOBODY, FOX], [ANYBODY], [NOBODY, BEAR])
    assert moved(owners, 1, torch.tensor([0])).all()
    assert moved(owners, 0, torch.arange(N))[1].all()


def test_where_everybody_reads_everything_it_is_consistent_self_attention() -> None:
    views, positions = window(5, 3), positions_of(5)
    given, whole = tokens_of(5), torch.full((5, N), ANYBODY)
    expected = follow(LockStep(views, positions), given)
    ours = follow(SubjectLockStep(views, positions, lambda _: whole), given)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_a_star_reads_the_same_in_calls_of_its_own() -> None:
    """Followers read the references from the bank as if all panels were in one call."""
    owners = owners_of([NOBODY, FOX], [FOX, BEAR], [BEAR, NOBODY], [ANYBODY])
    given, positions = tokens_of(4), positions_of(4, rate=1.0)
    record = RecordSubjects(all_to_all(2), positions, lambda _: owners)
    follow(record, tuple(x[:, :2] for x in given))  # type: ignore[arg-type]
    followers = ReadSubjects(record, lambda _: owners[2:], 2)
    read = follow(followers, tuple(x[:, 2:] for x in given))  # type: ignore[arg-type]
    for place, panel in enumerate((2, 3)):
        rows = [0, 1, panel]
        together = attend(owners[rows], tuple(x[:, rows] for x in given), rate=1.0)  # type: ignore[arg-type]
        torch.testing.assert_close(read[:, place], together[:, 2], atol=1e-5, rtol=1e-4)


def test_otsu_parts_two_groups() -> None:
    values = torch.tensor([0.1, 0.8, 0.12, 0.09, 0.75, 0.11])
    assert (values > otsu(values)).tolist() == [False, True, False, False, True, False]


def test_otsu_of_one_value_puts_all_in_one_group() -> None:
    values = torch.full((3, 3), 0.4)
    assert not (values > otsu(values)).any()


@pytest.mark.parametrize(
    ("num_tokens", "size", "expected"),
    [(64, (8, 8), (8, 8)), (16, (8, 8), (4, 4)), (12, (7, 5), (4, 3)), (4, (7, 5), (2, 2))],
)
def test_a_layer_s_grid_is_the_latents_halved_and_rounded_up(
    num_tokens: int, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert grid_of(num_tokens, size) == expected


def test_a_cell_is_whose_most_of_it_is() -> None:
    owners = torch.tensor([[[FOX, FOX, NOBODY, NOBODY], [FOX, NOBODY, NOBODY, BEAR]]])
    assert coarser(owners, (1, 2)).tolist() == [[[FOX, NOBODY]]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_tokens", [5, 77, 154])
def test_attention_is_shared_out_as_the_layer_itself_does(family: Family, num_tokens: int) -> None:
    """With values that only count tokens, the layer's output says what its attention was."""
    torch.manual_seed(0)
    layer = tiny_unet(family).mid_block.attentions[0].transformer_blocks[0].attn2
    hidden_states = torch.randn(2, 16, 32)
    text = torch.randn(2, num_tokens, layer.cross_attention_dim)
    with torch.inference_mode():
        shares = attention_shares(layer, hidden_states, text)
        assert shares.shape == (2, 16, num_tokens)
        torch.testing.assert_close(shares.sum(-1), torch.ones(2, 16))
        query, key = layer.to_q(hidden_states), layer.to_k(text)
        width = query.shape[-1] // layer.heads
        by_head = [
            (query[..., part] @ key[..., part].transpose(1, 2) / width**0.5).softmax(-1)
            for part in (slice(h * width, (h + 1) * width) for h in range(layer.heads))
        ]
    torch.testing.assert_close(shares, torch.stack(by_head).mean(0), atol=1e-5, rtol=1e-4)


def unit_of(*in_panels: tuple[str, ...], references: tuple[str, ...] = ()) -> KeyframesUnit:
    panels = tuple(
        replace(panel_of(i, *names), prompt=f"scene {i} of a {' and a '.join(names).lower()}")
        for i, names in enumerate(in_panels)
    )
    images = tuple(ReferenceImage(character=name, path=f"{name}.png") for name in references)
    return KeyframesUnit(
        story_id="the-kite", panels=panels, reference_images=images, characters=CAST
    )


def test_a_character_s_words_are_those_that_nobody_else_in_the_panel_has() -> None:
    unit = unit_of(("Fox", "Bear"), ("Fox",))
    assert own_words(unit.panels[0], unit) == {
        "Fox": {"fox", "red", "coat"},
        "Bear": {"bear", "hat"},
    }
    assert own_words(unit.panels[1], unit) == {"Fox": {"fox", "in", "red", "coat"}}


def test_words_are_found_in_the_tokens_of_the_prompt() -> None:
    tokenizer = tiny_tokenizer()  # a token is one character
    places = places_of({"fox", "den"}, ["the fox, a foxy den"], tokenizer)
    text = [tokenizer.decode([token]) for token in tokenizer("the fox, a foxy den").input_ids]
    assert "".join(text[place] for place in places).replace(" ", "") == "foxden"


def test_the_cast_says_who_is_in_which_image() -> None:
    unit = unit_of(("Fox",), ("Bear", "Fox"), (), references=("Bear",))
    cast = cast_of(unit, chunks_of(unit), tiny_tokenizer())
    assert (cast.of_references, cast.num_characters) == ((1,), 2)
    assert cast.present == ((1,), (0,), (1, 0), ())
    assert cast.words.shape == (4, 77, 3)
    assert cast.words[:, 0, 0].tolist() == [1] * 4
    assert [round(total, 5) for total in cast.words[2].sum(0).tolist()] == [1, 1, 1]
    assert cast.words[3, :, 1:].sum() == 0


def test_a_story_that_names_nobody_has_one_character_in_all_panels() -> None:
    unit = unit_of((), ())
    assert cast_of(unit, chunks_of(unit), tiny_tokenizer()).present == ((0,), (0,))


def test_words_of_a_long_prompt_are_found_in_all_of_its_chunks() -> None:
    unit, tokenizer = unit_of(("Fox",), ("Bear",)), tiny_tokenizer()
    cast = cast_of(unit, [["a house", "the fox"], ["a bear", "a bear"]], tokenizer)
    assert cast.words.shape == (2, 2 * 77, 3)
    starts = cast.words[:, :, 0].nonzero().tolist()
    assert starts == [[0, 0], [0, 77], [1, 0], [1, 77]]
    assert cast.words[0, :77, 1].sum() == 0
    assert cast.words[0, 77:, 1].sum() == pytest.approx(1)
    assert cast.words[1, :77, 2].sum() == pytest.approx(0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_subjects_are_seen_in_long_prompts_and_in_words_with_weights(
    pipelines: dict[Family, Any], family: Family
) -> None:
    """Their texts are encoded in chunks, and the map has the tokens of all of them."""
    unit = unit_of(*FOUR)
    long = f"the (fox:1.3) and the bear {'far away ' * 30}"
    panels = tuple(replace(panel, prompt=long) for panel in unit.panels)
    pictures = denoise(pipelines[family], story_of(4), config_of(), replace(unit, panels=panels))
    assert pictures.isfinite().all()


def chunks_of(unit: KeyframesUnit) -> list[list[str]]:
    return [[panel.prompt] for panel in unit.panels]


def config_of(consistency: dict[str, Any] | None = None, **options: Any) -> KeyframesConfig:
    given = {"width": 32, "height": 32, "num_inference_steps": 4, **options}
    settings = {"branches": "positive", "subject": True, **(consistency or {})}
    return KeyframesConfig(consistency=ConsistencyConfig(**settings), **given)


def story_of(num_panels: int, num_anchors: int = 0) -> StoryLatents:
    noise = torch.stack([draw_noise((4, 8, 8), 10 + i) for i in range(num_panels)])
    anchors = torch.stack([draw_noise((4, 8, 8), 50 + i) for i in range(max(num_anchors, 1))])
    anchors = anchors[:num_anchors]
    return StoryLatents(noise=noise, anchors=anchors, anchor_noise=0.5 * anchors, seed=5)


def denoise(
    pipeline: Any, story: StoryLatents, config: KeyframesConfig, unit: KeyframesUnit
) -> Tensor:
    denoiser, embeds, cast = prepared(pipeline, config, unit)
    return denoiser(story, embeds, cast if config.consistency.subject else None)


def prepared(
    pipeline: Any, config: KeyframesConfig, unit: KeyframesUnit
) -> tuple[Denoiser, PromptEmbeds, Cast]:
    attention = install_attention(pipeline.unet, config.consistency.layers)
    scheduler = build_scheduler(config.scheduler, pipeline.scheduler)
    prompts = [""] * len(unit.reference_images) + [panel.prompt for panel in unit.panels]
    embeds = encode_prompts(pipeline, prompts, ["bad"] * len(prompts))
    denoiser = Denoiser(pipeline.unet, scheduler, attention, config)
    texts = [panel.prompt for panel in unit.panels]
    chunks = prompt_chunks(pipeline, texts, ["bad"] * len(prompts))
    return denoiser, embeds, cast_of(unit, chunks, pipeline.tokenizer)


FOUR = (("Fox",), ("Fox", "Bear"), (), ("Bear",))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("coverage", ["window", "star"])
@pytest.mark.parametrize("references", [(), ("Bear",)])
def test_a_story_with_subjects_denoises_the_same_twice_and_unlike_without(
    pipelines: dict[Family, Any], family: Family, coverage: str, references: tuple[str, ...]
) -> None:
    unit = unit_of(*FOUR, references=references)
    options = {"coverage": coverage, "window_size": 3, "num_references": 2}
    story, pipeline = story_of(4, len(references)), pipelines[family]
    first = denoise(pipeline, story, config_of(options), unit)
    assert first.isfinite().all()
    assert torch.equal(denoise(pipeline, story, config_of(options), unit), first)
    without = denoise(pipeline, story, config_of({**options, "subject": False}), unit)
    assert not torch.equal(without, first)


def test_a_story_in_less_memory_is_the_same(pipelines: dict[Family, Any]) -> None:
    unit, story = unit_of(*FOUR, references=("Fox",)), story_of(4, 1)
    options = {"coverage": "star", "num_references": 2}
    denoiser, embeds, cast = prepared(pipelines["sd15"], config_of(options, batch_size=2), unit)
    expected = denoiser(story, embeds, cast)
    torch.testing.assert_close(
        denoiser.smaller()(story, embeds, cast), expected, atol=1e-3, rtol=1e-3
    )


def test_panels_of_different_characters_do_not_read_each_other_once_masked(
    pipelines: dict[Family, Any],
) -> None:
    """Two latents that differ in the bear's panel only leave the fox's panels alone."""
    unit = unit_of(("Fox",), ("Bear",), ("Fox",))
    denoiser, embeds, cast = prepared(pipelines["sd15"], config_of(), unit)
    maps = CrossAttentionMaps(pipelines["sd15"].unet, cast, (8, 8))
    story = story_of(3)
    other = story.noise * torch.tensor([1.0, -1.0, 1.0])[:, None, None, None]
    record(denoiser, maps, story, embeds)
    (one,) = passes(config_of(), story, 2, (1,), maps.owners())
    with torch.inference_mode():
        first, second = (
            denoiser._call(one, noise, torch.tensor(500), embeds.of((1,)))
            for noise in (story.noise, other)
        )
    assert torch.equal(first[:, [0, 2]], second[:, [0, 2]])
    assert not torch.equal(first[:, 1], second[:, 1])


@torch.inference_mode()
def record(
    denoiser: Denoiser, maps: CrossAttentionMaps, story: StoryLatents, embeds: PromptEmbeds
) -> None:
    """One UNet call of all images."""
    (one,) = passes(config_of(), story, 0, (1,))
    model_input = torch.cat([story.anchors, story.noise])
    denoiser._call(replace(one, maps=maps), model_input, torch.tensor(500), embeds.of((1,)))


def test_masks_follow_the_words_and_leave_the_unet_as_it_was(
    pipelines: dict[Family, Any],
) -> None:
    pipeline = pipelines["sd15"]
    denoiser, embeds, cast = prepared(pipeline, config_of(), unit_of(*FOUR, references=("Fox",)))
    maps = CrossAttentionMaps(pipeline.unet, cast, (8, 8))
    record(denoiser, maps, story_of(4, 1), embeds)
    owners = maps.owners()(64)
    assert [set(row.tolist()) for row in owners[:2]] == [{FOX}, {FOX, NOBODY}]
    assert set(owners[2].tolist()) <= {FOX, BEAR, NOBODY}
    assert set(owners[3].tolist()) == {ANYBODY}
    assert set(owners[4].tolist()) == {BEAR, NOBODY}
    assert not any(module._forward_pre_hooks for module in pipeline.unet.modules())


def test_the_first_reading_steps_are_not_masked() -> None:
    consistency = config_of({"start": 0.25, "end": 0.75, "subject_start": 2}).consistency
    masked = [consistency.is_masked(step, 20) for step in range(20)]
    assert [step for step, one in enumerate(masked) if one] == list(range(7, 15))


def test_subjects_need_the_positive_branch_alone() -> None:
    with pytest.raises(ValueError, match='subject: true, allowed only with branches = "positive"'):
        ConsistencyConfig(subject=True)


def test_a_story_ten_times_as_long_needs_no_larger_call_or_bank(
    pipelines: dict[Family, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a window does not grow with the story."""
    reach: set[tuple[int, int]] = set()
    usual = subjects.read_subjects

    def watch(
        panel: int, owners: Tensor, readable: Readable, sources: Sequence[int]
    ) -> tuple[Reading, ...]:
        reach.add((len(set(readable.panels.tolist())), len(sources)))
        return usual(panel, owners, readable, sources)

    monkeypatch.setattr(subjects, "read_subjects", watch)
    config = config_of({"window_size": 3, "max_panels": 4})
    for num_panels in (4, 40):
        unit = unit_of(*[("Fox",)] * num_panels)
        denoise(pipelines["sd15"], story_of(num_panels), config, unit)
    assert reach == {(4, 2)}, (
        "a call of four panels, of which each reads two, however many there are"
    )


def test_subjects_are_a_setting_of_the_stage_beside_an_image_prompt(tmp_path: Path) -> None:
    folder = save_tiny_family(tmp_path / "family")
    save_tiny_image_prompt(folder, "sd15")
    unit = replace(unit_of(*FOUR), reference_images=())
    shas = []
    for subject in (True, True, False):
        config = KeyframesConfig.model_validate(
            {
                "model": ModelConfig(path=str(folder)),
                "width": 32,
                "height": 32,
                "num_inference_steps": 4,
                "image_prompt": {"path": str(folder)},
                "consistency": {"branches": "positive", "subject": subject},
            }
        )
        stage = KeyframesStage(output_url=str(tmp_path / "out"), config=config)
        shas.append([keyframe.sha256 for keyframe in stage(unit)])
    assert shas[0] == shas[1] != shas[2]


def box_of(name: str, left: float, top: float, right: float, bottom: float) -> CharacterBox:
    return CharacterBox(character=name, left=left, top=top, right=right, bottom=bottom)


def test_characters_are_where_the_layout_says_and_backgrounds_where_the_place_does(
    pipelines: dict[Family, Any],
) -> None:
    unit = unit_of(*FOUR)
    first = replace(
        unit.panels[0],
        characters=("Fox", "Bear"),
        layout=(box_of("Fox", 0, 0.5, 0.75, 1), box_of("Bear", 0.5, 0.25, 1, 1)),
        place="beach",
    )
    second = replace(unit.panels[1], place="wood")
    third = replace(unit.panels[2], place="beach")
    unit = replace(unit, panels=(first, second, third, *unit.panels[3:]))
    pipeline = pipelines["sd15"]
    denoiser, embeds, cast = prepared(pipeline, config_of(), unit)
    maps = CrossAttentionMaps(pipeline.unet, cast, (8, 8))
    record(denoiser, maps, story_of(4), embeds)
    owners = maps.owners()(64).view(4, 8, 8)
    beach = FIRST_PLACE
    names = list(dict.fromkeys(name for panel in unit.panels for name in panel.characters))
    fox, bear = names.index("Fox"), names.index("Bear")
    expected = torch.full((8, 8), beach)
    expected[4:, :6] = fox
    expected[2:, 4:] = bear  # the later box is in front
    assert torch.equal(owners[0], expected)
    by_place = [set(one.unique().tolist()) for one in owners]
    assert NOBODY not in by_place[0] | by_place[1]
    assert beach - 1 in by_place[1]
    assert beach not in by_place[1] | by_place[3]


def test_a_layout_and_a_place_change_pictures(tmp_path: Path) -> None:
    folder = save_tiny_family(tmp_path / "family")
    consistency = {"branches": "positive", "subject": True}
    settings = {"width": 32, "height": 32, "num_inference_steps": 4, "consistency": consistency}
    config = KeyframesConfig.model_validate({"model": {"path": str(folder)}, **settings})
    stage = KeyframesStage(output_url=str(tmp_path / "out"), config=config)
    unit = replace(unit_of(("Fox",), ("Fox",)), reference_images=())
    boxed = [replace(panel, layout=(box_of("Fox", 0, 0, 0.5, 1),)) for panel in unit.panels]
    placed = [replace(panel, place="beach") for panel in boxed]
    units = (unit, replace(unit, panels=tuple(boxed)), replace(unit, panels=tuple(placed)))
    shas = [keyframe.sha256 for one in units for keyframe in stage(one)]
    assert len(set(shas)) == len(shas)
