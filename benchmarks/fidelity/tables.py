"""Tables of the page: the rows of each, from the results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.fidelity import clips, keyframes
from benchmarks.fidelity.clips import ClipMethod, Condition, table2
from benchmarks.fidelity.keyframes import (
    ablation,
    gate,
    table1,
    true_gate_row,
    true_row,
    unit_of,
)
from benchmarks.fidelity.rendering import Method
from benchmarks.fidelity.results import Result, Row, Setup
from benchmarks.fidelity.statistics import ratio_interval
from benchmarks.fidelity.summaries import (
    STORY_MEASURES,
    chance,
    clip_estimate,
    flat_estimate,
    flat_share,
    results,
    story_estimate,
)
from storyreel.stages.scoring.measures.bootstrap import MeanEstimate

CONSISTENCY = {
    "clothes": "clothes agree",
    "top": "top",
    "bottom": "bottom",
    "hat": "hat",
    "character_similarity": "character similarity",
    "copied": "copies",
}
FOLLOWING = {
    "character": "right character",
    "action": "right action",
    "place": "right place",
    "time": "right time",
    "number": "right number",
    "cast": "right character and number",
    "retrieved": "R@1",
    "text_similarity": "text-image",
}
CLIP_HEADINGS = {
    "pixels": "pixel distance",
    "perceptual": "perceptual distance",
    "clipsim_first": "CLIPSIM first",
    "clipsim_frames": "CLIPSIM frames",
}
SMALLER_IS_BETTER = ("pixels", "perceptual")
ALIKE_HEADINGS = {
    "perceptual_first": "perceptual distance, first",
    "perceptual_frames": "perceptual distance, frames",
}
LIVELY_HEADINGS = {"displacement": "displacement", "flicker": "flicker"}

MAX_JUMP = 1.5
"""Of a step at a keyframe, in median steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A markdown table; without rows it is left out of the page."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.heading, ["---"] * len(self.heading), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def format_estimate(estimate: MeanEstimate, digits: int = 2) -> str:
    """A mean and its 95 % interval."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.{digits}f}"
    return f"{estimate.mean:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def story_results(setup: Setup, method: Method, count: int) -> list[Result]:
    """The results of a method's first `count` stories."""
    return results(method.row, [unit_of(story) for story in keyframes.stories(setup, count)])


def clip_results(setup: Setup, method: ClipMethod, kind: str) -> list[Result]:
    """The results of a method's clips of one kind."""
    return results(method.row, [c.clip_id for c in clips.clips(setup) if c.kind == kind])


def token_results(setup: Setup, kind: str) -> list[Result]:
    units = [clip.clip_id for clip in clips.clips(setup) if clip.kind == kind]
    return results(clips.tokens_row(setup), units)


def _estimator_results(setup: Setup) -> list[Result]:
    units = [keyframes.true_unit(index) for index in range(setup.num_true)]
    return results(keyframes.estimator_row(setup), units)


def estimator_estimates(setup: Setup, look: str) -> dict[str, MeanEstimate]:
    measured = _estimator_results(setup)
    return {
        name: flat_share({str(i): result[look][name] for i, result in enumerate(measured)})
        for name in (measured[0][look] if measured else ())
    }


def estimator_table(setup: Setup) -> Table | None:
    """Accuracy of the estimator on drawn and decoded pictures."""
    estimates = {look: estimator_estimates(setup, look) for look in keyframes.LOOKS}
    if not all(estimates.values()):
        return None
    names = next(iter(estimates.values()))
    return Table(
        heading=["pictures", *(name.replace("_", " ") for name in names)],
        rows=[
            [look, *(format_estimate(one, 3) for one in each.values())]
            for look, each in estimates.items()
        ],
    )


def gate_results(setup: Setup, row: Row) -> list[Result]:
    return results(row, [keyframes.twin_unit(index) for index in keyframes.twins(setup)])


def gate_share(measured: Sequence[Result], holds: Callable[[Result], bool]) -> MeanEstimate:
    return flat_share({str(i): [holds(one)] for i, one in enumerate(measured)})


def gate_passed(result: Result) -> bool:
    return all(result["agree"])


def gate_table(setup: Setup) -> Table:
    """Agreement of twins, of rendered and of true pictures."""
    rows = [
        ("rendered", gate_results(setup, gate(setup).row)),
        ("as the world draws them", gate_results(setup, true_gate_row(setup))),
    ]
    return Table(
        heading=[
            "pictures",
            "agree in all clothes",
            "two figures",
            "more",
            "agree, of those with two",
        ],
        rows=[[name, *_gate_cells(each)] for name, each in rows if each],
    )


def _gate_cells(measured: Sequence[Result]) -> list[str]:
    pairs = [one for one in measured if one["found"] == 2]
    return [
        format_estimate(gate_share(measured, gate_passed)),
        format_estimate(gate_share(measured, lambda one: one["found"] == 2)),
        format_estimate(gate_share(measured, lambda one: one["found"] > 2)),
        format_estimate(gate_share(pairs, gate_passed)) if pairs else "-",
    ]


MeasuredRow = tuple[str, Sequence[Result]]
"""The name of a method, and the results of its stories."""


def story_rows(setup: Setup) -> list[MeasuredRow]:
    """The measured methods of Table 1, the true pictures last."""
    rows = [
        (method.row.name, story_results(setup, method, setup.num_stories))
        for method in table1(setup)
    ]
    true = true_row(setup)
    units = [unit_of(story) for story in keyframes.stories(setup)]
    rows = [*rows, (true.name, results(true, units))]
    return [(name, measured) for name, measured in rows if measured]


def ablation_rows(setup: Setup) -> list[MeasuredRow]:
    """The measured methods of the ablation, the plain one first."""
    methods = [table1(setup)[0], *ablation(setup)]
    rows = [(one.row.name, story_results(setup, one, setup.num_ablation)) for one in methods]
    return [(name, measured) for name, measured in rows if measured]


def consistency_table(rows: Sequence[MeasuredRow]) -> Table:
    """Agreement between the panels of a story."""
    luck = [chance(measured) for _, measured in rows]
    return Table(
        heading=["method", *CONSISTENCY.values(), "chance"],
        rows=[
            [*line, "-" if one is None else f"{one:.3f}"]
            for line, one in zip(_lines(rows, CONSISTENCY), luck, strict=True)
        ],
    )


def following_table(rows: Sequence[MeasuredRow]) -> Table:
    """Agreement of the panels with their prompts."""
    return Table(heading=["method", *FOLLOWING.values()], rows=_lines(rows, FOLLOWING))


def _lines(rows: Sequence[MeasuredRow], measures: Mapping[str, str]) -> list[list[str]]:
    return [[name, *(_cell(measured, measure) for measure in measures)] for name, measured in rows]


def _cell(measured: Sequence[Result], measure: str) -> str:
    has_values = any(STORY_MEASURES[measure](result) for result in measured)
    return format_estimate(story_estimate(measured, measure)) if has_values else "-"


def alternatives(setup: Setup, *, reading: bool) -> tuple[ClipMethod, list[ClipMethod]]:
    """The predictor under one switch, and what it has to beat."""
    mine, others = [], []
    for method in table2(setup):
        same = clips.parts_of(method.config).read_keyframes == reading
        if method.condition is Condition.PREDICTOR and same:
            mine.append(method)
        elif method.condition is Condition.LATENTS or (
            same and method.condition in {Condition.LINEAR, Condition.TEXT}
        ):
            others.append(method)
    return mine[0], others


def relative_motion(measured: Sequence[Result]) -> MeanEstimate:
    """Motion of clips, relative to that of the true clips."""
    return ratio_interval(
        [one["motion"] for one in measured],
        [one["true_motion"] for one in measured],
        [str(index) for index in range(len(measured))],
    )


def clip_rows(setup: Setup, kind: str) -> list[tuple[list[str], list[Result]]]:
    """The first cells of each line, and what its others tell of; the true clips come last."""
    rows = []
    for method in table2(setup):
        read = "yes" if clips.parts_of(method.config).read_keyframes else "no"
        nothing = method.condition is Condition.LATENTS
        rows.append(
            ([method.row.name, "-" if nothing else read], clip_results(setup, method, kind))
        )
    true = clips.true_clips_row(setup)
    units = [c.clip_id for c in clips.clips(setup) if c.kind == kind]
    rows.append(([true.name, "-"], results(true, units)))
    return [(names, measured) for names, measured in rows if measured]


def similarity_table(rows: Sequence[tuple[list[str], list[Result]]]) -> Table:
    """Distance of clips to the true ones, and similarity of their frames."""
    measures = {**CLIP_HEADINGS, **ALIKE_HEADINGS}
    return Table(
        heading=["condition", "keyframes read", *measures.values()],
        rows=[
            [*first, *(format_estimate(clip_estimate(measured, name), 4) for name in measures)]
            for first, measured in rows
        ],
    )


def liveliness_table(rows: Sequence[tuple[list[str], list[Result]]]) -> Table:
    """Amount and steadiness of motion."""
    return Table(
        heading=["condition", "keyframes read", "motion", *LIVELY_HEADINGS.values()],
        rows=[
            [
                *first,
                format_estimate(relative_motion(measured)),
                *(format_estimate(clip_estimate(measured, name), 4) for name in LIVELY_HEADINGS),
            ]
            for first, measured in rows
        ],
    )


def _film_results(setup: Setup) -> list[Result]:
    row = clips.films_row(setup, table1(setup)[1])
    return results(row, [unit_of(story) for story in clips.film_stories(setup)])


def film_jumps(setup: Setup) -> dict[str, dict[str, list[float]]]:
    """Changes at keyframes, in median steps, by where they are and by film."""
    measured = list(enumerate(_film_results(setup)))
    if not measured:
        return {}
    return {
        "at the start of a clip": {str(i): [a for a, _ in one["ends"]] for i, one in measured},
        "at the end of a clip": {str(i): [b for _, b in one["ends"]] for i, one in measured},
        "across a join": {str(i): one["joins"] for i, one in measured if one["joins"]},
    }


def films_table(setup: Setup) -> Table | None:
    """The jumps of films."""
    rows = [
        [where, *_jump_cells(of_films)] for where, of_films in film_jumps(setup).items() if of_films
    ]
    heading = ("step", "mean", "median", "largest", "share <= 1.5")
    return Table(heading=heading, rows=rows) if rows else None


def _jump_cells(of_films: Mapping[str, list[float]]) -> list[str]:
    flat = sorted(value for of_film in of_films.values() for value in of_film)
    return [
        format_estimate(flat_estimate(of_films)),
        f"{np.median(flat):.2f}",
        f"{flat[-1]:.2f}",
        f"{sum(value <= MAX_JUMP for value in flat) / len(flat):.2f}",
    ]
