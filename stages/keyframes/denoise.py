"""Denoises all panels of a story together: latents in, latents out; no files, no records."""

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from storyreel.stages.heartbeat import beat
from storyreel.stages.keyframes.cast import Cast
from storyreel.stages.keyframes.config import ConsistencyConfig, KeyframesConfig
from storyreel.stages.keyframes.control import ControlNetGuide
from storyreel.stages.keyframes.masks import CrossAttentionMaps, Owners
from storyreel.stages.keyframes.subjects import ReadSubjects, RecordSubjects, SubjectLockStep
from storyreel.stages.models.attention import (
    LockStep,
    Positions,
    ReadReferences,
    RecordReferences,
    View,
    all_to_all,
    anchored,
    sample_positions,
    window,
)
from storyreel.stages.models.denoising import guide
from storyreel.stages.models.loading import PromptEmbeds
from storyreel.stages.models.unet_attention import AttentionPlan, StoryAttention
from storyreel.stages.seeds import derive_seed

NEGATIVE, POSITIVE = range(2)
"""The branches of classifier-free guidance, in the order of `PromptEmbeds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryLatents:
    """The initial latents of a story.

    noise: (P, C, h, w) of the panels. anchors: (A, C, h, w), clean latents of reference images;
    anchor_noise: the same shape, the noise they carry at every step. seed draws the tokens.
    """

    noise: Tensor
    anchors: Tensor
    anchor_noise: Tensor
    seed: int

    @property
    def num_panels(self) -> int:
        """P, without the anchors."""
        return len(self.noise)

    @property
    def num_anchors(self) -> int:
        """A."""
        return len(self.anchors)

    @property
    def size(self) -> tuple[int, int]:
        """h, w."""
        return self.noise.shape[-2], self.noise.shape[-1]


@dataclass(frozen=True, slots=True)
class Pass:
    """One UNet call of a step: some panels (the anchors count from 0, the story follows).

    It is of one or of all guidance branches. The last panel may be there several times, to fill the
    call up. What it shows of where the figures are is added to `maps`.
    """

    panels: tuple[int, ...]
    branches: tuple[int, ...]
    plan: AttentionPlan | None
    maps: CrossAttentionMaps | None = None


class Denoiser:
    """The denoising loop over a diffusers UNet and scheduler."""

    def __init__(
        self,
        unet: Any,
        scheduler: Any,
        attention: StoryAttention,
        config: KeyframesConfig,
        control: ControlNetGuide | None = None,
    ) -> None:
        self._unet = unet
        self._control = control
        self._scheduler = scheduler
        self._attention = attention
        self._config = config
        self._branches = range(NEGATIVE if config.guidance_scale > 1 else POSITIVE, 2)
        self._branches_apart = False

    def smaller(self) -> "Denoiser":
        """The same loop with less memory: one guidance branch in a UNet call, one panel if it can.

        Panels of a window, and the references of a star, stay together.
        """
        smaller = copy(self)
        smaller._config = self._config.model_copy(update={"batch_size": 1})
        smaller._branches_apart = True
        return smaller

    @torch.inference_mode()
    def __call__(
        self, story: StoryLatents, embeds: PromptEmbeds, cast: Cast | None = None
    ) -> Tensor:
        """The clean latents (P, C, h, w) of the panels.

        Args:
            story: noise of P panels and A anchors.
            embeds: of A + P prompts, those of the anchors first.
            cast: who is in these A + P images, where figures alone shall read.
        """
        maps = None if cast is None else CrossAttentionMaps(self._unet, cast, story.size)
        scheduler, num_steps = self._scheduler, self._config.num_inference_steps
        scheduler.set_timesteps(num_steps, device=story.noise.device)
        latents: Tensor = story.noise * scheduler.init_noise_sigma
        for step_index, timestep in enumerate(scheduler.timesteps):
            model_input = torch.cat([self._noisy_anchors(story, timestep), latents])
            model_input = scheduler.scale_model_input(model_input, timestep)
            total = torch.zeros_like(model_input)
            count = total.new_zeros(len(total), 1, 1, 1)
            step_embeds = self._of_step(embeds, step_index)
            for same_panels in self._passes(story, step_index, maps):
                distinct = list(dict.fromkeys(same_panels[0].panels))
                predicted = self._predict(same_panels, model_input, timestep, step_embeds)
                total[distinct] += predicted[: len(distinct)]
                count[distinct] += 1
            noise_pred = total[story.num_anchors :] / count[story.num_anchors :]
            latents = scheduler.step(noise_pred, timestep, latents).prev_sample
        return latents

    def _of_step(self, embeds: PromptEmbeds, step_index: int) -> PromptEmbeds:
        """The prompts of a step: control images only while the ControlNet works."""
        num_steps = self._config.num_inference_steps
        if self._control is None or self._control.is_active(step_index, num_steps):
            return embeds
        return replace(embeds, control_images={})

    def _noisy_anchors(self, story: StoryLatents, timestep: Tensor) -> Tensor:
        if story.num_anchors == 0:
            return story.anchors
        timesteps = timestep.expand(story.num_anchors)
        noisy: Tensor = self._scheduler.add_noise(story.anchors, story.anchor_noise, timesteps)
        return noisy

    def _passes(
        self, story: StoryLatents, step_index: int, maps: CrossAttentionMaps | None
    ) -> Iterator[tuple[Pass, ...]]:
        """The passes of a step; those of the same panels, but of other guidance branches, at once.

        Branches in calls of their own thus read references that were recorded of them alone.
        """
        groups = self._branch_groups(step_index)
        found = (self._passes_of(group, story, step_index, maps) for group in groups)
        return zip(*found, strict=True)

    def _branch_groups(self, step_index: int) -> list[tuple[int, ...]]:
        """The guidance branches of each UNet call."""
        consistency, num_steps = self._config.consistency, self._config.num_inference_steps
        differ = consistency.branches == "positive" and consistency.is_active(step_index, num_steps)
        if differ or self._branches_apart:
            return [(branch,) for branch in self._branches]
        return [tuple(self._branches)]

    def _passes_of(
        self,
        branches: tuple[int, ...],
        story: StoryLatents,
        step_index: int,
        maps: CrossAttentionMaps | None,
    ) -> Iterator[Pass]:
        consistency, num_steps = self._config.consistency, self._config.num_inference_steps
        if consistency.branches == "positive" and POSITIVE not in branches:
            found = passes(self._config, story, step_index, branches)
            return (replace(one, plan=None) for one in found)
        if maps is None or not consistency.is_active(step_index, num_steps):
            return passes(self._config, story, step_index, branches)
        # Read before a call of this step adds to the maps.
        owners = maps.owners() if consistency.is_masked(step_index, num_steps) else None
        found = passes(self._config, story, step_index, branches, owners)
        return (replace(one, maps=maps) for one in found)

    def _predict(
        self,
        same_panels: Sequence[Pass],
        model_input: Tensor,
        timestep: Tensor,
        embeds: PromptEmbeds,
    ) -> Tensor:
        predicted = [
            self._call(one, model_input, timestep, embeds.of(one.branches)) for one in same_panels
        ]
        return guide(torch.cat(predicted), self._config.guidance_scale)

    def _call(
        self, one: Pass, model_input: Tensor, timestep: Tensor, embeds: PromptEmbeds
    ) -> Tensor:
        """Run the UNet: the prediction of each branch of `embeds`, (G, P, C, h, w)."""
        rows, num_branches = list(one.panels), len(embeds.prompt_embeds)
        sample = repeat(model_input[rows], "p c h w -> (g p) c h w", g=num_branches)
        sample = sample.to(self._unet.dtype)
        recording = nullcontext() if one.maps is None else one.maps.recording(rows)
        with self._attention.following(one.plan), recording:
            predicted = self._unet(
                sample,
                timestep,
                encoder_hidden_states=self._conditions(embeds, rows),
                added_cond_kwargs=self._added_conditions(embeds, rows),
                **self._residuals(embeds, rows, sample, timestep),
            ).sample.to(model_input.dtype)
        beat()
        by_branch: Tensor = rearrange(predicted, "(g p) c h w -> g p c h w", g=num_branches)
        return by_branch

    def _residuals(
        self, embeds: PromptEmbeds, rows: list[int], sample: Tensor, timestep: Tensor
    ) -> dict[str, Any]:
        """The ControlNet's residuals for the panels that have a control image."""
        if self._control is None:
            return {}
        images = [embeds.control_images.get(row) for row in rows] * len(embeds.prompt_embeds)
        text = self._of_rows(embeds.prompt_embeds, rows)
        added = self._added_conditions(embeds, rows)
        return self._control.residuals(images, sample, timestep, text, added)

    def _conditions(
        self, embeds: PromptEmbeds, rows: list[int]
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """The conditions of cross-attention: text, and image tokens if there is an IP-Adapter."""
        text = self._of_rows(embeds.prompt_embeds, rows)
        if embeds.image_tokens is None:
            return text
        return text, [self._of_rows(embeds.image_tokens, rows)]

    def _of_rows(self, values: Tensor, rows: list[int]) -> Tensor:
        """(G, P, ...) to the panels of one UNet call, (G * rows, ...)."""
        return rearrange(values[:, rows], "g p ... -> (g p) ...")

    def _added_conditions(self, embeds: PromptEmbeds, rows: list[int]) -> dict[str, Tensor]:
        if embeds.pooled is None:
            return {}
        pooled = self._of_rows(embeds.pooled, rows)
        size = (self._config.height, self._config.width)
        sizes_and_crop = pooled.new_tensor([*size, 0, 0, *size])
        return {"text_embeds": pooled, "time_ids": sizes_and_crop.expand(len(pooled), -1)}


def passes(
    config: KeyframesConfig,
    story: StoryLatents,
    step_index: int,
    branches: tuple[int, ...],
    owners: Owners | None = None,
) -> Iterator[Pass]:
    """The UNet calls of a step, in order: panels that are read run before those that read them.

    With `owners` each token reads its own subject only.
    """
    num_anchors, num_all = story.num_anchors, story.num_anchors + story.num_panels
    consistency = config.consistency
    if not consistency.is_active(step_index, config.num_inference_steps):
        for panels in chunks(range(num_anchors, num_all), config.batch_size):
            yield Pass(panels, branches, None)
        return
    positions = _positions(consistency, num_all, derive_seed(story.seed, "tokens", step_index))
    if consistency.coverage == "window":
        size = consistency.window_of(story.num_panels)
        for stretch in stretches(story.num_panels, consistency.max_panels - num_anchors, size - 1):
            views = anchored(window(len(stretch), size), num_anchors)
            rows = (*range(num_anchors), *(num_anchors + panel for panel in stretch))
            yield Pass(rows, branches, _lock_step(views, positions, owners, rows))
        return
    num_references = min(consistency.num_references, story.num_panels)
    references = anchored(all_to_all(num_references), num_anchors)
    record = _record(references, positions, owners)
    yield Pass(tuple(range(record.num_panels)), branches, record)
    for panels in chunks(range(record.num_panels, num_all), config.batch_size):
        yield Pass(panels, branches, _read(record, owners, panels))


def _lock_step(
    views: Sequence[View], positions: Positions, owners: Owners | None, rows: Sequence[int]
) -> AttentionPlan:
    if owners is None:
        return LockStep(views, _of_rows(positions, rows))
    return SubjectLockStep(views, _of_rows(positions, rows), _of_rows(owners, rows))


def _record(views: Sequence[View], positions: Positions, owners: Owners | None) -> RecordReferences:
    if owners is None:
        return RecordReferences(views, positions)
    return RecordSubjects(views, positions, owners)


def _read(record: RecordReferences, owners: Owners | None, panels: Sequence[int]) -> AttentionPlan:
    if not isinstance(record, RecordSubjects):
        return ReadReferences(record.bank, len(panels))
    assert owners is not None
    return ReadSubjects(record, _of_rows(owners, panels), len(panels))


def _positions(consistency: ConsistencyConfig, num_panels: int, seed: int) -> Positions:
    @functools.cache  # layers with the same number of tokens share a draw
    def positions(num_tokens: int) -> Tensor:
        return sample_positions(
            num_panels,
            num_tokens,
            rate=consistency.sampling_rate,
            seed=derive_seed(seed, num_tokens),
            sampling=consistency.sampling,
        )

    return positions


def _of_rows(positions: Positions, rows: Sequence[int]) -> Positions:
    """The positions, or owners, of some panels of a story."""
    return lambda num_tokens: positions(num_tokens)[list(rows)]


def stretches(num_panels: int, size: int, overlap: int) -> list[range]:
    """Ranges of `size` neighbouring panels that share at least `overlap`, and hold every panel."""
    assert size > overlap
    last = max(num_panels - size, 0)
    starts = [*range(0, last, size - overlap), last]
    return [range(start, min(start + size, num_panels)) for start in starts]


def chunks(panels: range, size: int) -> list[tuple[int, ...]]:
    """Groups of the same length, at most `size`; the last repeats its last panel to fill up."""
    length = math.ceil(len(panels) / max(math.ceil(len(panels) / size), 1))
    groups = [tuple(panels[i : i + length]) for i in range(0, len(panels), max(length, 1))]
    return [group + group[-1:] * (length - len(group)) for group in groups]
