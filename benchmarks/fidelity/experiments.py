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
from benchmarks.fidelity.results import Setup

Task = Callable[[], None]


def _table1(setup: Setup) -> list[Task]:
    methods = [partial(measure_stories, setup, one, setup.num_stories) for one in table1(setup)]
    return [*methods, partial(measure_true_stories, setup)]


def _ablation(setup: Setup) -> list[Task]:
    methods = (table1(setup)[0], *ablation(setup))
    return [partial(measure_stories, setup, one, setup.num_ablation) for one in methods]


def _table2(setup: Setup) -> list[Task]:
    methods = [partial(measure_clips, setup, method) for method in table2(setup)]
    return [*methods, partial(measure_true_clips, setup), partial(measure_tokens, setup)]


EXPERIMENTS: Mapping[str, Callable[[Setup], list[Task]]] = MappingProxyType(
    {
        "estimator": lambda setup: [partial(measure_estimator, setup)],
        "gate": lambda setup: [partial(measure_gate, setup), partial(measure_true_gate, setup)],
        "table1": _table1,
        "ablation": _ablation,
        "table2": _table2,
        "films": lambda setup: [partial(_measure_films, setup)],
    }
)
"""The parts of each experiment, which do not need each other."""


def _measure_films(setup: Setup) -> None:
    """A film needs the keyframes of its story, which may be there already."""
    keyframes = table1(setup)[1]
    measure_stories(setup, keyframes, setup.num_films)
    measure_films(setup, keyframes)


def run(setup: Setup, experiments: Sequence[str], num_processes: int) -> None:
    """Run experiment after experiment, the parts of each side by side."""
    with ProcessPoolExecutor(
        num_processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(setup.config.num_threads,),
    ) as pool:
        for experiment in experiments:
            for future in [pool.submit(task) for task in EXPERIMENTS[experiment](setup)]:
                future.result()


def _start(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    start_logging()


def start_logging() -> None:
    """Log progress to the terminal."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
