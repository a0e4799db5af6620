"""The targets of the page: what was to be reached, what was measured."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.fidelity import clips
from benchmarks.fidelity.keyframes import gate, table1
from benchmarks.fidelity.results import Result, Setup
from benchmarks.fidelity.statistics import ratio_interval
from benchmarks.fidelity.summaries import (
    clip_difference,
    clip_estimate,
    flat_estimate,
    story_difference,
    story_estimate,
)
from benchmarks.fidelity.tables import (
    CLIP_HEADINGS,
    FOLLOWING,
    MAX_JUMP,
    SMALLER_IS_BETTER,
    Table,
    alternatives,
    clip_results,
    estimator_estimates,
    film_jumps,
    format_estimate,
    gate_passed,
    gate_results,
    gate_share,
    relative_motion,
    story_results,
    token_results,
)
from storyreel.stages.scoring.measures.bootstrap import MeanEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure that was to be reached."""

    what: str
    target: str
    measured: str
    reached: bool


def targets_table(setup: Setup) -> Table:
    """All targets; what was not measured is named."""
    targets: list[Target] = []
    for what, found in (
        ("the estimators", _estimator_targets(setup)),
        ("the gate", _gate_targets(setup)),
        ("consistency and prompt following (Table 1)", _story_targets(setup)),
        ("the predictor's tokens", _token_targets(setup)),
        ("motion between keyframes (Table 2)", _clip_targets(setup)),
        ("films", _film_targets(setup)),
    ):
        missing = Target(what=what, target="-", measured="not measured yet", reached=False)
        targets += list(found) or [missing]
    rows = [(c.what, c.target, c.measured, "yes" if c.reached else "**no**") for c in targets]
    return Table(heading=("what", "target", "measured", "reached"), rows=rows)


def _estimator_targets(setup: Setup) -> Iterator[Target]:
    for name, estimate in estimator_estimates(setup, "drawn").items():
        if name != "nobody_else":
            yield Target(
                what=f"estimator right on true pictures: {name}",
                target=">= 0.98",
                measured=format_estimate(estimate, 3),
                reached=estimate.mean >= 0.98,
            )


def _gate_targets(setup: Setup) -> Iterator[Target]:
    measured = gate_results(setup, gate(setup).row)
    if measured:
        estimate = gate_share(measured, gate_passed)
        yield Target(
            what="gate: two figures in one picture agree in clothes",
            target=">= 0.90",
            measured=format_estimate(estimate),
            reached=estimate.mean >= 0.9,
        )


def _story_targets(setup: Setup) -> Iterator[Target]:
    plain, window = (story_results(setup, one, setup.num_stories) for one in table1(setup)[:2])
    if not plain or not window:
        return
    ours, theirs = story_estimate(window, "clothes"), story_estimate(plain, "clothes")
    yield Target(
        what="clothes agree, with Consistent Self-Attention",
        target=">= 0.75",
        measured=format_estimate(ours),
        reached=ours.mean >= 0.75,
    )
    yield Target(
        what="clothes agree, without", target="<= 0.35", measured=format_estimate(theirs),
        reached=theirs.mean <= 0.35,
    )  # fmt: skip
    for name in ("cast", "action", "place"):
        right = story_estimate(window, name)
        yield Target(
            what=f"{FOLLOWING[name]}, with it",
            target=">= 0.85",
            measured=format_estimate(right),
            reached=right.mean >= 0.85,
        )
        cost = story_difference(plain, window, name)
        yield Target(
            what=f"what it costs: {FOLLOWING[name]}",
            target="95 % bound <= 0.03",
            measured=format_estimate(cost, 3),
            reached=cost.high is not None and cost.high <= 0.03,
        )
    yield from _retrieval_targets(plain, window)


def _retrieval_targets(plain: Sequence[Result], window: Sequence[Result]) -> Iterator[Target]:
    ours, theirs = (
        [float(hit) for result in each for hit in result["retrieved"]] for each in (window, plain)
    )
    groups = [result["story"] for result in plain for _ in result["retrieved"]]
    if any(theirs):
        ratio = ratio_interval(ours, theirs, groups)
        yield Target(
            what="R@1 with it, of that without",
            target=">= 0.97",
            measured=format_estimate(ratio),
            reached=ratio.mean >= 0.97,
        )
    copies = story_estimate(window, "copied")
    yield Target(
        what="copies, with it", target="<= 0.05", measured=format_estimate(copies, 3),
        reached=copies.mean <= 0.05,
    )  # fmt: skip


def _token_targets(setup: Setup) -> Iterator[Target]:
    for kind in clips.KINDS:
        measured = token_results(setup, kind)
        if measured:
            ratio = ratio_interval(
                [one["predictor"] for one in measured],
                [one["linear"] for one in measured],
                [str(index) for index in range(len(measured))],
            )
            yield Target(
                what=f"predictor's token error, of linear interpolation's, {kind}",
                target="<= 0.70",
                measured=format_estimate(ratio),
                reached=ratio.mean <= 0.7,
            )


def _clip_targets(setup: Setup) -> Iterator[Target]:
    for reading in (False, True):
        method, others = alternatives(setup, reading=reading)
        for kind in clips.KINDS:
            ours = clip_results(setup, method, kind)
            theirs = {
                str(one.condition): measured
                for one in others
                if (measured := clip_results(setup, one, kind))
            }
            if ours and len(theirs) == len(others):
                switch = f"{kind}, keyframes {'read' if reading else 'not read'}"
                yield from compare(switch, ours, theirs)
                motion = relative_motion(ours)
                yield Target(
                    what=f"motion of the predictor's clips, {switch}",
                    target=">= 0.70 of the true",
                    measured=format_estimate(motion),
                    reached=motion.mean >= 0.7,
                )


def compare(switch: str, ours: list[Result], theirs: dict[str, list[Result]]) -> Iterator[Target]:
    """The predictor's clips against those of each alternative, by every measure."""
    for measure, heading in CLIP_HEADINGS.items():
        smaller = measure in SMALLER_IS_BETTER
        gaps = {name: clip_difference(ours, other, measure) for name, other in theirs.items()}
        behind = {name: _behind(gap, smaller_is_better=smaller) for name, gap in gaps.items()}
        hardest = max(behind, key=lambda name: behind[name])
        yield Target(
            what=f"predictor's {heading}, {switch}",
            target=f"{'below' if smaller else 'above'} all three, 95 % sure",
            measured=f"{clip_estimate(ours, measure).mean:.4f};"
            f" minus that of {hardest}: {format_estimate(gaps[hardest], 4)}",
            reached=behind[hardest] < 0,
        )


def _behind(gap: MeanEstimate, *, smaller_is_better: bool) -> float:
    """The worst case of ours against theirs; below zero ours is surely better."""
    if gap.low is None or gap.high is None:
        return math.inf
    return gap.high if smaller_is_better else -gap.low


def _film_targets(setup: Setup) -> Iterator[Target]:
    for where, values in film_jumps(setup).items():
        if not values:
            continue
        jump = flat_estimate(values)
        held = [value <= MAX_JUMP for of_film in values.values() for value in of_film]
        yield Target(
            what=f"films: jump {where}, in median steps",
            target="<= 1.5",
            measured=f"{format_estimate(jump)}; {sum(held)} of {len(held)} hold it",
            reached=jump.mean <= MAX_JUMP,
        )
