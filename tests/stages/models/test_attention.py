"""Consistent Self-Attention through real UNets of every family, against direct references."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from storyreel.stages.models.attention import (
    LockStep,
    Positions,
    Reading,
    ReadReferences,
    RecordReferences,
    View,
    all_to_all,
    anchored,
    read_along,
    readers,
    sample_positions,
    star,
    window,
)
from storyreel.stages.models.unet_attention import (
    AttentionPlan,
    ConsistentAttnProcessor,
    StoryAttention,
    assert_installed,
    install_attention,
    uninstall_attention,
)
from tests.stages.tiny import FAMILIES, TEXT_WIDTH, Family, tiny_motion_unet, tiny_unet

P = 4


def draw(num_panels: int, rate: float, seed: int = 0) -> Positions:
    return lambda num_tokens: sample_positions(num_panels, num_tokens, rate=rate, seed=seed)


def unet_of(family: Family) -> UNet2DConditionModel:
    """A UNet whose self-attention is far from uniform, unlike that of fresh weights."""
    torch.manual_seed(1)
    unet = tiny_unet(family)
    for name, module in unet.named_modules():
        if name.endswith("attn1"):
            module.to_q.weight.data *= 6
            module.to_k.weight.data *= 6
    return unet


def inputs(unet: Any, batch: int) -> dict[str, Any]:
    """Random inputs of a UNet call."""
    width = unet.config.cross_attention_dim
    generator = torch.Generator().manual_seed(2)
    given = {
        "sample": torch.randn(batch, 4, 8, 8, generator=generator),
        "encoder_hidden_states": torch.randn(batch, 5, width, generator=generator),
    }
    if unet.config.addition_embed_type == "text_time":
        pooled = torch.randn(batch, TEXT_WIDTH, generator=generator)
        given["text_embeds"] = pooled
    return given


@torch.inference_mode()
def predict(unet: Any, given: dict[str, Any]) -> Tensor:
    added = {}
    if "text_embeds" in given:
        time_ids = torch.tensor([32.0, 32, 0, 0, 32, 32]).expand(len(given["text_embeds"]), -1)
        added = {"text_embeds": given["text_embeds"], "time_ids": time_ids}
    text = given["encoder_hidden_states"]
    sample = given["sample"]
    output: Tensor = unet(sample, 500, encoder_hidden_states=text, added_cond_kwargs=added).sample
    return output


def run(
    unet: Any, story: StoryAttention, plan: AttentionPlan | None, given: dict[str, Any]
) -> Tensor:
    with story.following(plan):
        return predict(unet, given)


def rows(given: dict[str, Any], index: list[int]) -> dict[str, Any]:
    return {name: value[index] for name, value in given.items()}


class ReferenceProcessor:
    """Attention written out from the layer's weights: each panel i reads tokens `reads(i, N)`.

    `reads` gives pairs (panel, token); heads and softmax are plain loops and matrix products.
    """

    def __init__(self, num_panels: int, reads: Callable[[int, int], list[tuple[int, int]]]) -> None:
        self.num_panels = num_panels
        self.reads = reads

    def __call__(self, attn: Attention, hidden_states: Tensor, **_: Any) -> Tensor:
        branches = hidden_states.reshape(-1, self.num_panels, *hidden_states.shape[1:])
        out = torch.stack([self.branch(attn, branch) for branch in branches])
        return out.reshape(hidden_states.shape)

    def branch(self, attn: Attention, panels: Tensor) -> Tensor:
        return torch.stack([self.panel(attn, panels, i) for i in range(self.num_panels)])

    def panel(self, attn: Attention, panels: Tensor, i: int) -> Tensor:
        pairs = self.reads(i, panels.shape[1])
        read = torch.stack([panels[panel, token] for panel, token in pairs])
        return attend(attn, panels[i], read)


def attend(attn: Attention, own: Tensor, read: Tensor) -> Tensor:
    """(N, C) attends to (T, C): softmax(QK/sqrt(D))V of each head, then the output projection."""
    query, key, value = attn.to_q(own), attn.to_k(read), attn.to_v(read)
    width = query.shape[-1] // attn.heads
    heads = []
    for head in range(attn.heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[:, part] @ key[:, part].T / width**0.5
        heads.append(scores.softmax(dim=-1) @ value[:, part])
    return attn.to_out[0](torch.cat(heads, dim=-1))


def install_reference(unet: Any, processor: Any) -> None:
    names = [name for name in unet.attn_processors if ".attn1." in name]
    unet.set_attn_processor({**unet.attn_processors, **dict.fromkeys(names, processor)})


def whole_story(num_panels: int) -> Callable[[int, int], list[tuple[int, int]]]:
    return lambda _, num_tokens: [(j, t) for j in range(num_panels) for t in range(num_tokens)]


@pytest.mark.parametrize("family", FAMILIES)
def test_at_rate_one_all_to_all_is_dense_attention_over_the_story(family: Family) -> None:
    unet = unet_of(family)
    given = inputs(unet, 2 * P)
    plain = predict(unet, given)
    story = install_attention(unet)
    ours = run(unet, story, LockStep(all_to_all(P), draw(P, 1.0)), given)
    install_reference(unet, ReferenceProcessor(P, whole_story(P)))
    torch.testing.assert_close(ours, predict(unet, given), atol=2e-5, rtol=1e-4)
    assert (ours - plain).abs().max() > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_attention_is_equation_2(family: Family) -> None:
    unet = unet_of(family)
    given = inputs(unet, 2 * P)
    story = install_attention(unet)
    ours = run(unet, story, LockStep(all_to_all(P), draw(P, 0.3)), given)

    def own_and_samples(i: int, num_tokens: int) -> list[tuple[int, int]]:
        sampled = draw(P, 0.3)(num_tokens).tolist()
        own = [(i, token) for token in range(num_tokens)]
        return own + [(j, token) for j in range(P) if j != i for token in sampled[j]]

    install_reference(unet, ReferenceProcessor(P, own_and_samples))
    torch.testing.assert_close(ours, predict(unet, given), atol=2e-5, rtol=1e-4)


def test_one_layer_with_four_axes_group_norm_and_residual_keeps_the_diffusers_contract() -> None:
    torch.manual_seed(0)
    attn = Attention(
        query_dim=16,
        heads=2,
        dim_head=8,
        norm_num_groups=4,
        residual_connection=True,
        rescale_output_factor=1.7,
        bias=True,
    )
    story = StoryAttention(("layer",))
    hidden_states = torch.randn(2 * P, 16, 3, 5)
    attn.set_processor(AttnProcessor2_0())
    plain = attn(hidden_states)
    attn.set_processor(ConsistentAttnProcessor("layer", story))
    with story.following(LockStep(all_to_all(P), draw(P, 0.0))):
        torch.testing.assert_close(attn(hidden_states), plain)
    with story.following(LockStep(all_to_all(P), draw(P, 1.0))):
        dense = attn(hidden_states)
    tokens = attn.group_norm(hidden_states.flatten(2)).transpose(1, 2)
    reference = ReferenceProcessor(P, whole_story(P))(attn, tokens)
    expected = (reference.transpose(1, 2).reshape(hidden_states.shape) + hidden_states) / 1.7
    torch.testing.assert_close(dense, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_rate_zero_and_without_a_plan_it_is_plain_self_attention(family: Family) -> None:
    unet = unet_of(family)
    given = inputs(unet, 2 * P)
    plain = predict(unet, given)
    story = install_attention(unet)
    assert torch.equal(run(unet, story, None, given), plain)
    ours = run(unet, story, LockStep(all_to_all(P), draw(P, 0.0)), given)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_permuting_panels_and_positions_permutes_the_results(family: Family) -> None:
    unet = unet_of(family)
    given = inputs(unet, 2 * P)
    story = install_attention(unet)
    order = [2, 0, 3, 1]
    both = order + [P + i for i in order]
    positions = draw(P, 0.4)
    ours = run(unet, story, LockStep(all_to_all(P), positions), given)
    permuted_plan = LockStep(all_to_all(P), lambda num_tokens: positions(num_tokens)[order])
    permuted = run(unet, story, permuted_plan, rows(given, both))
    torch.testing.assert_close(permuted, ours[both], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_branches_never_mix(family: Family) -> None:
    unet = unet_of(family)
    given = inputs(unet, 2 * P)
    story = install_attention(unet)
    positions = draw(P, 0.5)
    changed = {name: value.clone() for name, value in given.items()}
    for value in changed.values():
        value[:P] += 1.0
    before = run(unet, story, LockStep(window(P, 3), positions), given)
    after = run(unet, story, LockStep(window(P, 3), positions), changed)
    assert torch.equal(after[P:], before[P:])
    assert not torch.equal(after[:P], before[:P])


def test_panels_of_a_branch_do_read_each_other() -> None:
    unet = unet_of("sd15")
    given = inputs(unet, P)
    story = install_attention(unet)
    changed = {name: value.clone() for name, value in given.items()}
    changed["sample"][0] += 1.0
    plan = LockStep(all_to_all(P), draw(P, 0.5))
    difference = run(unet, story, plan, changed) - run(unet, story, plan, given)
    assert all(panel.abs().max() > 1e-4 for panel in difference)


class AlgorithmOne:
    """Algorithm 1 of the paper as plain loops over one layer; samples leave out the own panel."""

    def __init__(self, num_panels: int, tile_size: int, positions: Positions) -> None:
        self.num_panels, self.tile_size, self.positions = num_panels, tile_size, positions

    def __call__(self, attn: Attention, hidden_states: Tensor, **_: Any) -> Tensor:
        result = torch.empty_like(hidden_states)
        for start in range(0, len(hidden_states), self.num_panels):
            branch = hidden_states[start : start + self.num_panels]
            result[start : start + self.num_panels] = self.branch(attn, branch)
        return result

    def branch(self, attn: Attention, images_tokens: Tensor) -> Tensor:
        sampled = self.positions(images_tokens.shape[1])
        output = torch.zeros_like(images_tokens)
        count = torch.zeros(self.num_panels)
        for t in range(self.num_panels - self.tile_size + 1):
            tile = range(t, t + self.tile_size)
            for i in tile:
                others = [images_tokens[j][sampled[j]] for j in tile if j != i]
                output[i] += attend(attn, images_tokens[i], torch.cat([images_tokens[i], *others]))
                count[i] += 1
        return output / count[:, None, None]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("num_panels", "size"), [(5, 3), (6, 2)])
def test_the_window_is_algorithm_1(family: Family, num_panels: int, size: int) -> None:
    unet = unet_of(family)
    given = inputs(unet, 2 * num_panels)
    story = install_attention(unet)
    positions = draw(num_panels, 0.5)
    ours = run(unet, story, LockStep(window(num_panels, size), positions), given)
    install_reference(unet, AlgorithmOne(num_panels, size, positions))
    torch.testing.assert_close(ours, predict(unet, given), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("num_panels", [1, 3, 5])
def test_a_story_that_fits_one_tile_is_read_all_to_all(num_panels: int) -> None:
    (tile,), (whole,) = window(num_panels, 5), all_to_all(num_panels)
    assert tile == whole


@pytest.mark.parametrize("family", FAMILIES)
def test_followers_that_read_the_bank_match_a_star_in_lock_step(family: Family) -> None:
    # In double precision, so that the order in which threads add up does not count.
    unet = unet_of(family).double()
    num_panels, num_references = 7, 2
    given = {name: value.double() for name, value in inputs(unet, 2 * num_panels).items()}
    story = install_attention(unet)
    positions = draw(num_panels, 0.5)
    whole = run(unet, story, LockStep(star(num_panels, num_references), positions), given)
    for batch_size in (1, 2, 5):
        record = RecordReferences(all_to_all(num_references), positions)
        parts = [run(unet, story, record, rows(given, [0, 1, 7, 8])).unflatten(0, (2, -1))]
        for start in range(num_references, num_panels, batch_size):
            panels = list(range(start, min(start + batch_size, num_panels)))
            both = panels + [num_panels + panel for panel in panels]
            plan = ReadReferences(record.bank, len(panels))
            parts.append(run(unet, story, plan, rows(given, both)).unflatten(0, (2, -1)))
        banked = torch.cat(parts, dim=1).flatten(0, 1)
        torch.testing.assert_close(banked, whole, atol=1e-10, rtol=1e-9)


def test_followers_of_a_star_never_read_each_other() -> None:
    unet = unet_of("sd15")
    given = inputs(unet, 5)
    story = install_attention(unet)
    changed = {name: value.clone() for name, value in given.items()}
    changed["sample"][3] += 1.0
    plan = LockStep(star(5, 2), draw(5, 0.5))
    before, after = run(unet, story, plan, given), run(unet, story, plan, changed)
    assert torch.equal(after[[0, 1, 2, 4]], before[[0, 1, 2, 4]])


def test_panels_read_the_anchors_and_the_anchors_read_only_themselves() -> None:
    unet = unet_of("sd15")
    given = inputs(unet, 5)
    story = install_attention(unet)
    plan = LockStep(anchored(window(4, 2), 1), draw(5, 0.5))
    before = run(unet, story, plan, given)
    changed = {name: value.clone() for name, value in given.items()}
    changed["sample"][2] += 1.0
    assert torch.equal(run(unet, story, plan, changed)[0], before[0])
    changed = {name: value.clone() for name, value in given.items()}
    changed["sample"][0] += 1.0
    difference = run(unet, story, plan, changed) - before
    assert all(panel.abs().max() > 1e-4 for panel in difference)


@pytest.mark.parametrize(
    "views",
    [
        all_to_all(1),
        all_to_all(4),
        window(7, 3),
        star(7, 3),
        star(2, 3),
        readers(6, (0, 5)),
        readers(1, (0, 0)),
        anchored(window(5, 2), 2),
    ],
)
def test_every_panel_attends_and_none_reads_its_own_tokens_twice(views: tuple[View, ...]) -> None:
    attending = {panel for view in views for panel in view.panels}
    assert sorted(attending) == list(range(max(attending) + 1))
    num_tokens, rows = 10, torch.arange(10 * len(attending))
    for reading in read_along(views, draw(len(attending), 0.3)(num_tokens), num_tokens):
        shared = rows[reading.shared].tolist()
        for queries, own in zip(*reading_groups(reading, rows), strict=True):
            read = own + shared
            assert len(set(read)) == len(read)
            assert set(queries) <= set(read)


def reading_groups(reading: Reading, rows: Tensor) -> tuple[list[list[int]], list[list[int]]]:
    """The queries and the own rows of each group."""
    groups = (reading.num_groups, -1)
    queries, own = rows[reading.queries].view(groups), rows[reading.own].view(groups)
    return queries.tolist(), own.tolist()


def test_frames_of_a_clip_read_both_keyframes() -> None:
    ends, inner = readers(5, (0, 4))
    assert ends == View(panels=(0, 4), sources=(0, 4))
    assert ends.others(0) == (4,)
    assert inner == View(panels=(1, 2, 3), sources=(0, 4))


@pytest.mark.parametrize("sampling", ["random", "grid"])
@pytest.mark.parametrize(("num_tokens", "rate"), [(64, 0.5), (10, 0.33), (7, 1.0), (9, 0.0)])
def test_positions_are_a_fixed_count_of_different_tokens(
    sampling: Any, num_tokens: int, rate: float
) -> None:
    positions = sample_positions(5, num_tokens, rate=rate, seed=3, sampling=sampling)
    assert positions.shape == (5, round(rate * num_tokens))
    for row in positions.tolist():
        assert row == sorted(set(row))
        assert all(0 <= token < num_tokens for token in row)


def test_positions_depend_on_the_seed_and_differ_between_panels() -> None:
    first = sample_positions(3, 64, rate=0.5, seed=1)
    assert torch.equal(first, sample_positions(3, 64, rate=0.5, seed=1))
    assert not torch.equal(first, sample_positions(3, 64, rate=0.5, seed=2))
    assert not torch.equal(first[0], first[1])


def test_only_self_attention_of_the_chosen_blocks_is_replaced() -> None:
    unet = unet_of("sdxl")
    story = install_attention(unet, ("up_blocks",))
    ours = [
        name
        for name, processor in unet.attn_processors.items()
        if isinstance(processor, ConsistentAttnProcessor)
    ]
    assert tuple(ours) == story.layers
    assert ours
    assert all(name.startswith("up_blocks.") and ".attn1." in name for name in ours)


def test_in_a_motion_unet_frames_read_both_keyframes_and_temporal_attention_is_left_alone() -> None:
    torch.manual_seed(1)
    unet = tiny_motion_unet()
    story = install_attention(unet)
    assert story.layers
    assert not any("motion_modules" in name for name in story.layers)
    sample, text = torch.randn(2, 4, 5, 8, 8), torch.randn(10, 7, TEXT_WIDTH)
    with torch.inference_mode():
        plain = unet(sample, 10, text).sample
        with story.following(LockStep(readers(5, (0, 4)), draw(5, 0.0))):
            without = unet(sample, 10, text).sample
        with story.following(LockStep(readers(5, (0, 4)), draw(5, 0.5))):
            reading = unet(sample, 10, text).sample
    torch.testing.assert_close(without, plain, atol=1e-5, rtol=1e-4)
    assert (reading - plain).abs().max() > 1e-3


def test_blocks_without_self_attention_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"middle.*allowed.*up_blocks"):
        install_attention(unet_of("sd15"), ("middle",))


def test_a_processor_that_was_replaced_later_is_noticed() -> None:
    unet = unet_of("sd15")
    story = install_attention(unet)
    assert_installed(unet, story)
    unet.set_attn_processor(AttnProcessor2_0())
    with pytest.raises(RuntimeError, match="was replaced in 7 layers"):
        assert_installed(unet, story)


def test_uninstalling_gives_the_original_unet_back() -> None:
    unet = unet_of("sd15")
    given = inputs(unet, 2)
    plain = predict(unet, given)
    uninstall_attention(unet, install_attention(unet))
    assert torch.equal(predict(unet, given), plain)
    kinds = {type(processor) for processor in unet.attn_processors.values()}
    assert kinds == {AttnProcessor2_0}


def test_the_plan_ends_with_its_call_even_when_the_call_fails() -> None:
    story = StoryAttention(("layer",))
    with pytest.raises(RuntimeError), story.following(LockStep(all_to_all(2), draw(2, 0.5))):
        raise RuntimeError
    assert story.plan is None
