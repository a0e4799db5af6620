"""The experiments, cut into parts that run side by side."""

import logging
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from types import MappingProxyType

import torch

from benchmarks.fidelity.clips import (
    measure_clips,
    measure_films,
    measure_tokens,
    measure_true_clips,
    table2,
)
from benchmarks.fidelity.keyframes import (
    ablation,
    measure_estimator,
    measure_gate,
    measure_stories,
    measure_true_gate,
    measure_true_stories,
    table1,
)
from benchmarks.fidelity.results import Plan

Task = Callable[[], None]


def _table1(plan: Plan) -> list[Task]:
    methods = [partial(measure_stories, plan, one, plan.num_stories) for one in table1(plan)]
    return [*methods, partial(measure_true_stories, plan)]


def _ablation(plan: Plan) -> list[Task]:
    methods = (table1(plan)[0], *ablation(plan))
    return [partial(measure_stories, plan, one, plan.num_ablation) for one in methods]


def _table2(plan: Plan) -> list[Task]:
    methods = [partial(measure_clips, plan, method) for method in table2(plan)]
    return [*methods, partial(measure_true_clips, plan), partial(measure_tokens, plan)]


EXPERIMENTS: Mapping[str, Callable[[Plan], list[Task]]] = MappingProxyType(
    {
        "estimator": lambda plan: [partial(measure_estimator, plan)],
        "gate": lambda plan: [partial(measure_gate, plan), partial(measure_true_gate, plan)],
        "table1": _table1,
        "ablation": _ablation,
        "table2": _table2,
        "films": lambda plan: [partial(_measure_films, plan)],
    }
)
"""The parts of each experiment, which do not need each other."""


def _measure_films(plan: Plan) -> None:
    """A film needs the keyframes of its story, which may be there already."""
    keyframes = table1(plan)[1]
    measure_stories(plan, keyframes, plan.num_films)
    measure_films(plan, keyframes)


def run(plan: Plan, experiments: Sequence[str], num_processes: int) -> None:
    """Run experiment after experiment, the parts of each side by side."""
    with ProcessPoolExecutor(
        num_processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(plan.config.num_threads,),
    ) as pool:
        for experiment in experiments:
            for future in [pool.submit(task) for task in EXPERIMENTS[experiment](plan)]:
                future.result()


def _start(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    start_logging()


def start_logging() -> None:
    """Log progress to the terminal."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
