"""How often the shards of a job were opened again for stories that are tried again.

The manifests of a sealed shard are never changed. A retry opens the shard's next generation: its
stages are sealed once more, from the records of what was done before and of what is done now. The
change of all shards is one file, published in one go; what was forgiven is listed there until it is
forgotten, so that a retry that breaks off is completed by the next run.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from storyreel.stages.output.commits import forgive
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure, from_row
from storyreel.stages.output.storage import Output

GENERATIONS = "generations.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """The record of a unit that was given up, by its name within its shard and stage."""

    shard: Shard
    name: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A unit that is over, by its stage, its shard's name and its own."""

    stage: str
    shard: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """`generations` by the shards' names; one that was never opened again is not in it."""

    generations: Mapping[str, int] = field(default_factory=dict)
    forgiven: tuple[Ended, ...] = ()


def read_generations(output: Output) -> Mapping[str, int]:
    """The generation of every shard that was opened again, by the shard's name.

    Raises:
        ValueError: the file cannot be read.
    """
    return _read(output).generations


def open_again(output: Output, shards: Iterable[Shard], units: Iterable[Ended]) -> None:
    """Let units be tried again, in the next generation of their shards."""
    generations = dict(read_generations(output))
    for shard in shards:
        generations[str(shard)] = shard.generation + 1
    _write(output, _State(generations=generations, forgiven=tuple(units)))
    complete_opening(output)


def complete_opening(output: Output) -> None:
    """Forget what was forgiven; for whoever holds the output, before anything is rendered."""
    state = _read(output)
    if not state.forgiven:
        return
    for unit in state.forgiven:
        forgive(output, unit.stage, _shard(unit.shard), unit.name)
    _write(output, replace(state, forgiven=()))


def _read(output: Output) -> _State:
    try:
        return output.read_json(GENERATIONS, _parse)
    except FileNotFoundError:
        return _State()


def _parse(content: Any) -> _State:
    return _State(
        generations={f"{_shard(name)}": int(n) for name, n in content["generations"].items()},
        forgiven=tuple(from_row(Ended, row) for row in content["forgiven"]),
    )


def _shard(name: str) -> Shard:
    if (shard := Shard.of_manifest(f"{name}.parquet")) is None:
        raise ValueError(f"{name!r} names no shard")
    return shard


def _write(output: Output, state: _State) -> None:
    output.publish(GENERATIONS, json.dumps(asdict(state), indent=1, sort_keys=True).encode())
