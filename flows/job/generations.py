"""Generations of the shards of a job: how often each was reopened to try stories again.

The manifests of a sealed shard are never changed. A retry opens the shard's next generation, whose
manifests are written from the commit records of the earlier and of the new attempts. One file has
the generations of all shards, so that a retry of several shards is published atomically. It also
lists the units whose records are to be removed, until they are: the next run completes a retry that
was interrupted.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure, to_json
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import forgive

GENERATIONS = "generations.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A unit that has failed for good: its shard, its name in the shard, and why."""

    shard: Shard
    name: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Identifies a unit that is done or has failed.

    The name `packed.parquet` is that of all units of the stage whose packed records are damaged.
    """

    stage: str
    shard: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """`generations` by the names of the shards; shards in generation 0 are left out."""

    generations: Mapping[str, int] = field(default_factory=dict)
    forgiven: tuple[Ended, ...] = ()


def read_generations(output: Output) -> Mapping[str, int]:
    """Return the generation of each shard that was reopened, by the name of the shard.

    Raises:
        InputError: the file cannot be read.
    """
    return _read(output).generations


def open_again(output: Output, shards: Iterable[Shard], units: Iterable[Ended]) -> None:
    """Open the next generation of shards, in which units are tried again."""
    generations = dict(read_generations(output))
    for shard in shards:
        generations[str(shard)] = shard.generation + 1
    _write(output, _State(generations=generations, forgiven=tuple(units)))
    complete_opening(output)


def complete_opening(output: Output) -> None:
    """Remove the records of units that are to be tried again; only for the holder of the lock."""
    state = _read(output)
    if not state.forgiven:
        return
    names: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for unit in state.forgiven:
        names[unit.stage, unit.shard].append(unit.name)
    for (stage, shard), units in names.items():
        forgive(output, stage, _shard(shard), units)
    _write(output, replace(state, forgiven=()))


def _read(output: Output) -> _State:
    try:
        state = output.read_record(GENERATIONS, _State)
    except FileNotFoundError:
        return _State()
    for name in state.generations:
        _shard(name)
    return state


def _shard(name: str) -> Shard:
    if (shard := Shard.of_manifest(f"{name}.parquet")) is None:
        raise InputError(f"{GENERATIONS}: {name!r} is not the name of a shard")
    return shard


def _write(output: Output, state: _State) -> None:
    output.publish(GENERATIONS, to_json(state))
