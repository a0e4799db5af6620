"""The prompts stage: turns a story into panels to render and shots between them."""

import itertools
from dataclasses import dataclass, replace

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.names.markup import markup_of, parse_markup
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.output.records import (
    Panel,
    PanelInput,
    PanelMarkup,
    Shot,
    ShotKind,
    Story,
    Storyboard,
)
from storyreel.stages.prompts.beats import FilmTiming, PacedPanel, plan_shots
from storyreel.stages.prompts.compose import Prompt, compose, compose_motion, compose_negative
from storyreel.stages.prompts.config import PromptsConfig, Style
from storyreel.stages.prompts.splitting import Split, StorySplitter, read_caption
from storyreel.stages.prompts.token_budget import TokenBudget, load_tokenizers
from storyreel.stages.seeds import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """The parts of a panel that all its beats share."""

    markup: PanelMarkup
    prompt: Prompt
    caption: str
    motion: Prompt | None
    """Of the shot after the panel, if it states what happens there."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was cut of the texts of the panel."""
        of_motion = () if self.motion is None else self.motion.warnings
        return (*self.prompt.warnings, *(f"motion: {warning}" for warning in of_motion))


class PromptsStage:
    """Turns stories into storyboards; holds the tokenizers, and the chat model if configured.

    Args:
        config: settings of the stage.
        model: the model whose text encoders read the prompts.
        num_frames: frames of a clip of motion, both keyframes included; at least 3.
        fps: frames of the film per second; at least 1.
        still_s: for how long the film's last keyframe stands, in seconds.
        limits: what a story may have at most.
    """

    def __init__(
        self,
        *,
        config: PromptsConfig,
        model: ModelConfig,
        num_frames: int,
        fps: int,
        still_s: float,
        limits: InputConfig,
    ) -> None:
        self._config = config
        self._timing = FilmTiming.of(config, num_frames=num_frames, fps=fps, still_s=still_s)
        self._budget = TokenBudget(load_tokenizers(model), config.max_chunks)
        self._split = StorySplitter(config, self._timing, limits)

    def __call__(self, story: Story) -> tuple[Storyboard]:
        """Return the storyboard of a story.

        Raises:
            ValueError: the story's markup is wrong, or it is beyond a limit.
        """
        return (self._storyboard(self._split(story)),)

    def split(self, story: Story) -> Split:
        """Return the story as a written storyboard, which a person can edit.

        Its warnings are also those of the prompts that will be made of it.

        Raises:
            ValueError: the story's markup is wrong, or it is beyond a limit.
        """
        split = self._split(story)
        style = self._config.find_style(split.story.style or self._config.style)
        told = tuple(
            f"panel {index}: {warning}"
            for index, panel in enumerate(split.story.panels)
            for warning in self._write(split.story, panel, style).warnings
        )
        return replace(split, warnings=split.warnings + told)

    def _storyboard(self, split: Split) -> Storyboard:
        story = split.story
        style = self._config.find_style(story.style or self._config.style)
        negative, cut = compose_negative(
            story.negative_prompt or self._config.negative_prompt, style, self._budget
        )
        written = [self._write(story, panel, style) for panel in story.panels]
        panels = _panels(split, written, negative, cut)
        return Storyboard(
            story_id=story.story_id,
            panels=panels,
            shots=self._shots(story, panels, written, style),
        )

    def _write(self, story: Story, panel: PanelInput, style: Style) -> _Written:
        descriptions = {c.name: c.description for c in story.characters}
        markup = markup_of(panel, descriptions)
        prompt = compose(markup, descriptions, style, self._budget)
        motion = None
        if panel.motion is not None:
            told = parse_markup(panel.motion, descriptions)
            motion = compose(told, descriptions, style, self._budget)
        return _Written(
            markup=markup, prompt=prompt, caption=read_caption(panel, markup), motion=motion
        )

    def _shots(
        self, story: Story, panels: tuple[Panel, ...], written: list[_Written], style: Style
    ) -> tuple[Shot, ...]:
        """Plan a shot for each pair of neighbours; motion joins the beats of one panel."""
        shots = []
        joins = self._joins(story, written)
        motion = ShotKind.MOTION, self._timing.num_frames
        for index, (first, second) in enumerate(itertools.pairwise(panels)):
            same_panel = first.panel_index == second.panel_index
            kind, num_frames = motion if same_panel else joins[first.panel_index]
            leaving = written[first.panel_index], story.panels[first.panel_index]
            own = None if same_panel else leaving[0].motion
            prompts = leaving[0].prompt, own or written[second.panel_index].prompt
            shots.append(
                Shot(
                    story_id=story.story_id,
                    shot_index=index,
                    kind=kind,
                    text=compose_motion(*prompts, style, self._budget),
                    negative_prompt=second.negative_prompt,
                    seed=derive_seed(story.story_id, story.seed, "shot", index),
                    num_frames=num_frames,
                    guidance_scale=None if same_panel else leaving[1].motion_guidance,
                )
            )
        return tuple(shots)

    def _joins(self, story: Story, written: list[_Written]) -> tuple[tuple[ShotKind, int], ...]:
        """The shot after each panel but the last, and its frames."""
        paced = tuple(
            PacedPanel.of(panel, one.caption, self._timing)
            for panel, one in zip(story.panels, written, strict=True)
        )
        beats = tuple(panel.beats or 1 for panel in story.panels)
        return plan_shots(paced, beats, self._timing)


def _panels(
    split: Split, written: list[_Written], negative_prompt: str, cut: tuple[str, ...]
) -> tuple[Panel, ...]:
    """One panel per beat: the record that becomes one keyframe."""
    story = split.story
    beats = [(i, beat) for i, panel in enumerate(story.panels) for beat in range(panel.beats or 1)]
    return tuple(
        Panel(
            story_id=story.story_id,
            keyframe_index=keyframe_index,
            panel_index=panel_index,
            beat=beat,
            prompt=written[panel_index].prompt.text,
            negative_prompt=negative_prompt,
            caption=written[panel_index].caption,
            characters=written[panel_index].markup.names,
            seed=derive_seed(story.story_id, story.seed, "keyframe", panel_index, beat),
            splitter=split.splitter,
            warnings=(*split.warnings, *written[panel_index].warnings, *cut),
            control_image=story.panels[panel_index].control_image,
            layout=story.panels[panel_index].layout,
            place=story.panels[panel_index].place,
        )
        for keyframe_index, (panel_index, beat) in enumerate(beats)
    )
