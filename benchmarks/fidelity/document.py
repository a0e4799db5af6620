"""Writes docs/fidelity.md and its picture grids from what was measured."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.fidelity import clips, keyframes
from benchmarks.fidelity.clips import ClipMethod, Condition, table2
from benchmarks.fidelity.grids import Line, save_grid
from benchmarks.fidelity.keyframes import (
    Method,
    ablation,
    gate,
    table1,
    true_gate_row,
    true_row,
    unit_of,
)
from benchmarks.fidelity.results import Plan, Result, Row
from benchmarks.fidelity.statistics import ratio_interval
from benchmarks.fidelity.summaries import (
    STORY_MEASURES,
    chance,
    clip_difference,
    clip_estimate,
    flat_estimate,
    flat_share,
    results,
    story_difference,
    story_estimate,
)
from storyreel.stages.models.attention import BLOCKS
from storyreel.stages.models.config import model_revision
from storyreel.stages.scoring.measures.bootstrap import Estimate
from storyreel.training import world
from storyreel.training.stories import HeldOutStory, held_out_twins

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
GRID_SIDE, CLIP_SIDE = 104, 84
MISSES = Path(__file__).with_name("misses.md")
"""What no program can say: why a target is missed, and what was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One line of what was to be shown."""

    what: str
    target: str
    measured: str
    reached: bool


def write_document(plan: Plan, directory: Path) -> Path:
    """Write `fidelity.md` and `fidelity/*.png`; what was not measured is left out and named."""
    sections = [
        _opening(plan),
        _claims(plan),
        _misses(),
        _estimator(plan),
        _gate(plan, directory),
        _stories(plan, directory),
        _ablation(plan),
        _clips(plan, directory),
        _films(plan, directory),
        _definitions(),
    ]
    path = directory / "fidelity.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(chain.from_iterable(sections)) + "\n", encoding="utf-8")
    return path


def told(estimate: Estimate, digits: int = 2) -> str:
    """A mean and its 95 % interval."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.{digits}f}"
    return f"{estimate.mean:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A markdown table, and an empty line."""
    lines = [heading, ["---"] * len(heading), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]


def story_results(plan: Plan, method: Method, count: int) -> list[Result]:
    """The results of a method's first `count` stories."""
    return results(method.row, [unit_of(story) for story in keyframes.stories(plan, count)])


def clip_results(plan: Plan, method: ClipMethod, kind: str) -> list[Result]:
    """The results of a method's clips of one kind."""
    return results(method.row, [c.clip_id for c in clips.clips(plan) if c.kind == kind])


def _opening(plan: Plan) -> list[str]:
    model = plan.config.keyframes.model
    revision = model_revision(model.path, model.revision)
    return [
        "# Fidelity of the pocket family",
        "",
        "How consistent, how true to its prompts and how lively the bundled model is, measured on"
        " stories and clips of its world that no training has seen. Written by the command below;"
        " do not edit. Intervals are 95 %, from the spread between stories or clips: Student's, for"
        " shares Wilson's. All methods of a table start from the same noise.",
        "",
        f"The stories and twins are numbers {keyframes.FIRST} and up of the held-out ones. The"
        " settings of the configuration were chosen on lower numbers.",
        "",
        "```",
        plan.command,
        "```",
        "",
        f"Model `{model.path}`, revision `{revision[:12]}`;"
        f" {plan.num_stories} stories of {plan.num_panels} panels, {plan.num_seeds} seed(s),"
        f" {plan.num_twins} twins, {plan.num_clips} clips of each kind,"
        f" {plan.num_true} true pictures."
        f" Keyframes: {plan.config.keyframes.num_inference_steps} steps, guidance"
        f" {plan.config.keyframes.guidance_scale}; clips:"
        f" {plan.config.motion.num_inference_steps} steps, guidance"
        f" {plan.config.motion.guidance_scale}.",
        "",
    ]


def _claims(plan: Plan) -> list[str]:
    claims: list[Claim] = []
    for what, found in (
        ("the estimators", _estimator_claims(plan)),
        ("the gate", _gate_claims(plan)),
        ("consistency and prompt following (Table 1)", _story_claims(plan)),
        ("the predictor's tokens", _token_claims(plan)),
        ("motion between keyframes (Table 2)", _clip_claims(plan)),
        ("films", _film_claims(plan)),
    ):
        missing = Claim(what=what, target="-", measured="not measured yet", reached=False)
        claims += list(found) or [missing]
    rows = [(c.what, c.target, c.measured, "yes" if c.reached else "**no**") for c in claims]
    return ["## Targets", "", *table(("what", "target", "measured", "reached"), rows)]


def _misses() -> list[str]:
    return ["## What is missed, and why", "", MISSES.read_text(encoding="utf-8")]


def _estimator_results(plan: Plan) -> list[Result]:
    units = [keyframes.true_unit(index) for index in range(plan.num_true)]
    return results(keyframes.estimator_row(plan), units)


def _estimator_estimates(plan: Plan, look: str) -> dict[str, Estimate]:
    measured = _estimator_results(plan)
    return {
        name: flat_share({str(i): result[look][name] for i, result in enumerate(measured)})
        for name in (measured[0][look] if measured else ())
    }


def _estimator_claims(plan: Plan) -> Iterator[Claim]:
    for name, estimate in _estimator_estimates(plan, "drawn").items():
        if name != "nobody_else":
            yield Claim(
                what=f"estimator right on true pictures: {name}",
                target=">= 0.98",
                measured=told(estimate, 3),
                reached=estimate.mean >= 0.98,
            )


def _estimator(plan: Plan) -> list[str]:
    heading, rows = ["pictures"], []
    for look in keyframes.LOOKS:
        estimates = _estimator_estimates(plan, look)
        if not estimates:
            return []
        heading = ["pictures", *(name.replace("_", " ") for name in estimates)]
        rows.append([look, *(told(estimate, 3) for estimate in estimates.values())])
    return [
        "## The estimators",
        "",
        "Share of right answers on true pictures, as drawn and as the autoencoder gives them back."
        " One answer per figure (mirror images and portraits included; who is not found is wrong)"
        " or per picture. Every figure below rests on them.",
        "",
        *table(heading, rows),
    ]


def _gate_results(plan: Plan, row: Row) -> list[Result]:
    return results(row, [keyframes.twin_unit(index) for index in keyframes.twins(plan)])


def _gate_share(measured: Sequence[Result], holds: Callable[[Result], bool]) -> Estimate:
    return flat_share({str(i): [holds(one)] for i, one in enumerate(measured)})


def _gate_passed(result: Result) -> bool:
    return all(result["agree"])


def _gate_claims(plan: Plan) -> Iterator[Claim]:
    measured = _gate_results(plan, gate(plan).row)
    if measured:
        estimate = _gate_share(measured, _gate_passed)
        yield Claim(
            what="gate: two figures in one picture agree in clothes",
            target=">= 0.90",
            measured=told(estimate),
            reached=estimate.mean >= 0.9,
        )


def _gate(plan: Plan, directory: Path) -> list[str]:
    row, true = gate(plan).row, true_gate_row(plan)
    measured = _gate_results(plan, row)
    if not measured:
        return []
    passed = [_gate_passed(one) for one in measured]
    agreeing, others = (
        [index for index, good in zip(keyframes.twins(plan), passed, strict=True) if good is wanted]
        for wanted in (True, False)
    )
    lines = [
        Line(
            label=label,
            pictures=[keyframes.pictures_of(row, keyframes.twin_unit(i), 1)[0] for i in chosen[:8]],
        )
        for label, chosen in (("agree", agreeing), ("do not agree", others))
        if chosen
    ]
    save_grid(directory / "fidelity/twins.png", lines, side=GRID_SIDE)
    prompts = [held_out_twins(i).prompt for i in others[:8]]
    rows = [("rendered", measured), ("as the world draws them", _gate_results(plan, true))]
    heading = [
        "pictures",
        "agree in all clothes",
        "two figures",
        "more",
        "agree, of those with two",
    ]
    return [
        "## The gate: one picture, the same character twice",
        "",
        "Consistent Self-Attention carries between pictures what self-attention has learned inside"
        f" one: {len(measured)} pictures of prompts that ask for the same character twice. The true"
        " pictures of the same prompts say how much of it the estimator sees.",
        "",
        *table(heading, [[name, *_gate_cells(each)] for name, each in rows if each]),
        "![Twins that agree and twins that do not](fidelity/twins.png)",
        "",
        *(["Prompts of the second line: " + "; ".join(prompts) + ".", ""] if prompts else []),
    ]


def _gate_cells(measured: Sequence[Result]) -> list[str]:
    pairs = [one for one in measured if one["found"] == 2]
    return [
        told(_gate_share(measured, _gate_passed)),
        told(_gate_share(measured, lambda one: one["found"] == 2)),
        told(_gate_share(measured, lambda one: one["found"] > 2)),
        told(_gate_share(pairs, _gate_passed)) if pairs else "-",
    ]


def _story_claims(plan: Plan) -> Iterator[Claim]:
    plain, window = (story_results(plan, one, plan.num_stories) for one in table1(plan)[:2])
    if not plain or not window:
        return
    ours, theirs = story_estimate(window, "clothes"), story_estimate(plain, "clothes")
    yield Claim(
        what="clothes agree, with Consistent Self-Attention",
        target=">= 0.75",
        measured=told(ours),
        reached=ours.mean >= 0.75,
    )
    yield Claim(
        what="clothes agree, without", target="<= 0.35", measured=told(theirs),
        reached=theirs.mean <= 0.35,
    )  # fmt: skip
    for name in ("cast", "action", "place"):
        right = story_estimate(window, name)
        yield Claim(
            what=f"{FOLLOWING[name]}, with it",
            target=">= 0.85",
            measured=told(right),
            reached=right.mean >= 0.85,
        )
        cost = story_difference(plain, window, name)
        yield Claim(
            what=f"what it costs: {FOLLOWING[name]}",
            target="95 % bound <= 0.03",
            measured=told(cost, 3),
            reached=cost.high is not None and cost.high <= 0.03,
        )
    yield from _retrieval_claims(plain, window)


def _retrieval_claims(plain: Sequence[Result], window: Sequence[Result]) -> Iterator[Claim]:
    ours, theirs = (
        [float(hit) for result in each for hit in result["retrieved"]] for each in (window, plain)
    )
    groups = [result["story"] for result in plain for _ in result["retrieved"]]
    if any(theirs):
        ratio = ratio_interval(ours, theirs, groups)
        yield Claim(
            what="R@1 with it, of that without",
            target=">= 0.97",
            measured=told(ratio),
            reached=ratio.mean >= 0.97,
        )
    copies = story_estimate(window, "copied")
    yield Claim(
        what="copies, with it", target="<= 0.05", measured=told(copies, 3),
        reached=copies.mean <= 0.05,
    )  # fmt: skip


def _story_tables(rows: Sequence[tuple[str, Sequence[Result]]]) -> list[str]:
    luck = [chance(measured) for _, measured in rows]
    consistent = [
        [*line, "-" if one is None else f"{one:.3f}"]
        for line, one in zip(_lines(rows, CONSISTENCY), luck, strict=True)
    ]
    return [
        *table(["method", *CONSISTENCY.values(), "chance"], consistent),
        *table(["method", *FOLLOWING.values()], _lines(rows, FOLLOWING)),
    ]


def _lines(
    rows: Sequence[tuple[str, Sequence[Result]]], measures: Mapping[str, str]
) -> list[list[str]]:
    return [[name, *(_cell(measured, measure) for measure in measures)] for name, measured in rows]


def _cell(measured: Sequence[Result], measure: str) -> str:
    has_values = any(STORY_MEASURES[measure](result) for result in measured)
    return told(story_estimate(measured, measure)) if has_values else "-"


def _stories(plan: Plan, directory: Path) -> list[str]:
    rows = [
        (method.row.name, story_results(plan, method, plan.num_stories)) for method in table1(plan)
    ]
    true = true_row(plan)
    units = [unit_of(story) for story in keyframes.stories(plan)]
    rows = [*rows, (true.name, results(true, units))]
    rows = [(name, measured) for name, measured in rows if measured]
    if not rows:
        return []
    return [
        "## Table 1: consistency and prompt following",
        "",
        "A character is right if its kind is there and no other, the number if as many figures are"
        " there as the prompt names; the target holds for both together. The true pictures say what"
        " this estimator would find of perfect ones.",
        "",
        *_story_tables(rows),
        *_story_grids(plan, directory),
    ]


def _story_grids(plan: Plan, directory: Path) -> list[str]:
    measured = story_results(plan, table1(plan)[1], plan.num_stories)
    if not measured:
        return []
    stories = keyframes.stories(plan)
    agreement = [np.mean(STORY_MEASURES["clothes"](result)) for result in measured]
    order = sorted(range(len(stories)), key=lambda i: (-agreement[i], i))
    lines: list[str] = []
    for name, title, chosen in (
        ("best", "Where most clothes agree", order[:3]),
        ("worst", "Where fewest clothes agree", order[::-1][:3]),
    ):
        grid = [line for i in chosen for line in _story_lines(plan, stories[i])]
        path = f"fidelity/stories-{name}.png"
        save_grid(directory / path, grid, side=GRID_SIDE)
        lines += [f"### {title}", "", f"![{title}]({path})", ""]
        for i in chosen:
            prompts = "; ".join(panel.prompt for panel in stories[i].panels)
            lines += [f"{stories[i].story_id}: {prompts}.", ""]
    return lines


def _story_lines(plan: Plan, story: HeldOutStory) -> Iterator[Line]:
    """The story as the world draws it and as the methods render it, but for both together."""
    size, unit = plan.config.keyframes.width, unit_of(story)
    yield Line(label=keyframes.TRUE, pictures=[world.draw(p.scene, size) for p in story.panels])
    for method in table1(plan):
        if method.row.name != keyframes.BOTH and method.row.has(unit):
            pictures = keyframes.pictures_of(method.row, unit, len(story.panels))
            yield Line(label=method.row.name, pictures=pictures)


def _ablation(plan: Plan) -> list[str]:
    methods = [table1(plan)[0], *ablation(plan)]
    rows = [(one.row.name, story_results(plan, one, plan.num_ablation)) for one in methods]
    rows = [(name, measured) for name, measured in rows if measured]
    if len(rows) < 2:
        return []
    return [
        "## Ablation of Consistent Self-Attention",
        "",
        f"On the first {plan.num_ablation} stories; the window, rate 0.5, {_places(plan)}, unless a"
        " line says otherwise. The paper has all layers, both branches and all steps.",
        "",
        *_story_tables(rows),
    ]


def _places(plan: Plan) -> str:
    """The layers and steps in which the configuration lets panels read each other."""
    consistency = plan.config.keyframes.consistency
    names = {BLOCKS: "all layers", ("up_blocks",): "the decoder only"}
    layers = names.get(consistency.layers, ", ".join(consistency.layers))
    which = {"both": "both branches", "positive": "the positive branch of the guidance only"}
    steps = f"from {consistency.start:.0%} to {consistency.end:.0%} of the steps"
    return f"{layers}, {which[consistency.branches]}, {steps}"


def _token_results(plan: Plan, kind: str) -> list[Result]:
    units = [clip.clip_id for clip in clips.clips(plan) if clip.kind == kind]
    return results(clips.tokens_row(plan), units)


def _token_claims(plan: Plan) -> Iterator[Claim]:
    for kind in clips.KINDS:
        measured = _token_results(plan, kind)
        if measured:
            ratio = ratio_interval(
                [one["predictor"] for one in measured],
                [one["linear"] for one in measured],
                [str(index) for index in range(len(measured))],
            )
            yield Claim(
                what=f"predictor's token error, of linear interpolation's, {kind}",
                target="<= 0.70",
                measured=told(ratio),
                reached=ratio.mean <= 0.7,
            )


def _alternatives(plan: Plan, *, reading: bool) -> tuple[ClipMethod, list[ClipMethod]]:
    """The predictor under one switch, and what it has to beat."""
    mine, others = [], []
    for method in table2(plan):
        same = method.config.read_keyframes == reading
        if method.condition is Condition.PREDICTOR and same:
            mine.append(method)
        elif method.condition is Condition.LATENTS or (
            same and method.condition in {Condition.LINEAR, Condition.TEXT}
        ):
            others.append(method)
    return mine[0], others


def _clip_claims(plan: Plan) -> Iterator[Claim]:
    for reading in (False, True):
        method, others = _alternatives(plan, reading=reading)
        for kind in clips.KINDS:
            ours = clip_results(plan, method, kind)
            theirs = {
                str(one.condition): measured
                for one in others
                if (measured := clip_results(plan, one, kind))
            }
            if ours and len(theirs) == len(others):
                switch = f"{kind}, keyframes {'read' if reading else 'not read'}"
                yield from _wins(switch, ours, theirs)
                motion = _motion(ours)
                yield Claim(
                    what=f"motion of the predictor's clips, {switch}",
                    target=">= 0.70 of the true",
                    measured=told(motion),
                    reached=motion.mean >= 0.7,
                )


def _wins(switch: str, ours: list[Result], theirs: dict[str, list[Result]]) -> Iterator[Claim]:
    for measure, heading in CLIP_HEADINGS.items():
        smaller = measure in SMALLER_IS_BETTER
        gaps = {name: clip_difference(ours, other, measure) for name, other in theirs.items()}
        behind = {name: _behind(gap, smaller_is_better=smaller) for name, gap in gaps.items()}
        hardest = max(behind, key=lambda name: behind[name])
        yield Claim(
            what=f"predictor's {heading}, {switch}",
            target=f"{'below' if smaller else 'above'} all three, 95 % sure",
            measured=f"{clip_estimate(ours, measure).mean:.4f};"
            f" minus that of {hardest}: {told(gaps[hardest], 4)}",
            reached=behind[hardest] < 0,
        )


def _behind(gap: Estimate, *, smaller_is_better: bool) -> float:
    """How far ours may be on the wrong side of theirs; below zero it is surely on the right one."""
    if gap.low is None or gap.high is None:
        return math.inf
    return gap.high if smaller_is_better else -gap.low


def _motion(measured: Sequence[Result]) -> Estimate:
    return ratio_interval(
        [one["motion"] for one in measured],
        [one["true_motion"] for one in measured],
        [str(index) for index in range(len(measured))],
    )


def _clips(plan: Plan, directory: Path) -> list[str]:
    lines: list[str] = []
    for kind in clips.KINDS:
        rows = _clip_rows(plan, kind)
        if rows:
            where = "inside one place" if kind == "inside" else "between two places"
            lines += [f"### Clips {where}", "", *_clip_tables(rows)]
            lines += _token_line(plan, kind)
            lines += _clip_grid(plan, directory, kind)
    return ["## Table 2: motion between keyframes", "", *lines] if lines else []


def _clip_rows(plan: Plan, kind: str) -> list[tuple[list[str], list[Result]]]:
    """The first cells of each line, and what its others tell of; the true clips come last."""
    rows = []
    for method in table2(plan):
        read = "yes" if method.config.read_keyframes else "no"
        nothing = method.condition is Condition.LATENTS
        rows.append(([method.row.name, "-" if nothing else read], clip_results(plan, method, kind)))
    true, units = (
        clips.true_clips_row(plan),
        [c.clip_id for c in clips.clips(plan) if c.kind == kind],
    )
    rows.append(([true.name, "-"], results(true, units)))
    return [(names, measured) for names, measured in rows if measured]


def _clip_tables(rows: Sequence[tuple[list[str], list[Result]]]) -> list[str]:
    still, names = {**CLIP_HEADINGS, **ALIKE_HEADINGS}, ["condition", "keyframes read"]
    alike = [
        [*first, *(told(clip_estimate(measured, name), 4) for name in still)]
        for first, measured in rows
    ]
    lively = [
        [
            *first,
            told(_motion(measured)),
            *(told(clip_estimate(measured, name), 4) for name in LIVELY_HEADINGS),
        ]
        for first, measured in rows
    ]
    return [
        *table([*names, *still.values()], alike),
        *table([*names, "motion", *LIVELY_HEADINGS.values()], lively),
    ]


def _token_line(plan: Plan, kind: str) -> list[str]:
    measured = _token_results(plan, kind)
    if not measured:
        return []
    predicted, linear = (clip_estimate(measured, name) for name in ("predictor", "linear"))
    return [f"Token error: predictor {told(predicted, 3)}, linear {told(linear, 3)}.", ""]


def _clip_grid(plan: Plan, directory: Path, kind: str) -> list[str]:
    """The clips in which the predictor gains most and least over the best alternative."""
    method, others = _alternatives(plan, reading=True)
    ours = clip_results(plan, method, kind)
    theirs = [clip_results(plan, other, kind) for other in others]
    if not ours or not all(theirs):
        return []
    gains = [
        min(other[i]["pixels"] for other in theirs) - one["pixels"] for i, one in enumerate(ours)
    ]
    shown = [clip for clip in clips.clips(plan) if clip.kind == kind]
    order = sorted(range(len(shown)), key=lambda i: (-gains[i], i))
    chosen = list(dict.fromkeys([order[0], order[-1]]))
    size = plan.config.keyframes.width
    lines = []
    for place, i in enumerate(chosen):
        title = "most gained by the predictor" if place == 0 else "least gained"
        lines.append(Line(label=f"{title}: {shown[i].text}", pictures=()))
        lines.append(Line(label="true", pictures=_some(list(clips.true_frames(plan, shown[i])))))
        for one in (method, *others):
            (frames,) = clips.read_strip(one.row, shown[i].clip_id, size)
            lines.append(Line(label=one.row.name, pictures=_some(frames)))
    path = f"fidelity/clips-{kind}.png"
    save_grid(directory / path, lines, side=CLIP_SIDE)
    return [f"![Clips {kind}, keyframes read]({path})", ""]


def _some(frames: Sequence[clips.Pixels]) -> list[clips.Pixels]:
    """Every other frame and the last."""
    return [*frames[:-1:2], frames[-1]]


def _film_results(plan: Plan) -> list[Result]:
    row = clips.films_row(plan, table1(plan)[1])
    return results(row, [unit_of(story) for story in clips.film_stories(plan)])


def _film_values(plan: Plan) -> dict[str, dict[str, list[float]]]:
    measured = list(enumerate(_film_results(plan)))
    if not measured:
        return {}
    return {
        "at the start of a clip": {str(i): [a for a, _ in one["ends"]] for i, one in measured},
        "at the end of a clip": {str(i): [b for _, b in one["ends"]] for i, one in measured},
        "across a join": {str(i): one["joins"] for i, one in measured if one["joins"]},
    }


def _film_claims(plan: Plan) -> Iterator[Claim]:
    for where, values in _film_values(plan).items():
        if not values:
            continue
        jump = flat_estimate(values)
        held = [value <= 1.5 for of_film in values.values() for value in of_film]
        yield Claim(
            what=f"films: jump {where}, in median steps",
            target="<= 1.5",
            measured=f"{told(jump)}; {sum(held)} of {len(held)} hold it",
            reached=jump.mean <= 1.5,
        )


def _films(plan: Plan, directory: Path) -> list[str]:
    values = _film_values(plan)
    if not values:
        return []
    rows = []
    for where, of_films in values.items():
        if of_films:
            flat = sorted(value for of_film in of_films.values() for value in of_film)
            rows.append(
                [
                    where,
                    told(flat_estimate(of_films)),
                    f"{np.median(flat):.2f}",
                    f"{flat[-1]:.2f}",
                    f"{sum(value <= 1.5 for value in flat) / len(flat):.2f}",
                ]
            )
    row, stories = clips.films_row(plan, table1(plan)[1]), clips.film_stories(plan)
    size = plan.config.keyframes.width
    shots = clips.read_strip(row, unit_of(stories[0]), size)
    grid = [Line(label=f"shot {i + 1}", pictures=_some(shot)) for i, shot in enumerate(shots)]
    save_grid(directory / "fidelity/film.png", grid, side=CLIP_SIDE)
    return [
        "## Films",
        "",
        f"The shots of the first {len(stories)} stories of Table 1, between keyframes that were"
        " rendered with Consistent Self-Attention, before any blending.",
        "",
        *table(("step", "mean", "median", "largest", "share <= 1.5"), rows),
        "![The shots of the first story](fidelity/film.png)",
        "",
    ]


def _definitions() -> list[str]:
    lines = ["## Definitions", ""]
    for module in (keyframes, clips):
        assert module.__doc__ is not None
        lines += [*module.__doc__.strip().splitlines(), ""]
    return lines
