"""Generations of the shards of a job: how often each was reopened, to try or to edit stories.

The manifests of a sealed shard are never changed. A retry opens the shard's next generation, whose
manifests are written from the commit records of the earlier and of the new attempts. One file has
the generations of all shards, so that a retry of several shards is published atomically. It also
lists the units whose records are to be removed, until they are: the next run completes a retry that
was interrupted. An edit of stories or settings opens a generation in the same way, an edition: its
stories stand in a manifest of their own, and what is made from something else now is open again.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure
from storyreel.stages.output.serialization import to_json
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
class Generations:
    """The generations of a job's shards.

    Attributes:
        generations: by the names of the shards; shards in generation 0 are left out.
        forgiven: units whose records are to be removed.
        editions: by the names of the shards, the generation that was opened by the last edit.
        removed: by the names of the shards, the number of stories that edits have removed.
    """

    generations: Mapping[str, int] = field(default_factory=dict)
    forgiven: tuple[Ended, ...] = ()
    editions: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)

    def of(self, shard: Shard) -> Shard:
        """The newest generation of a shard."""
        name = str(shard)
        generation, edition = self.generations.get(name, 0), self.editions.get(name, 0)
        return replace(shard, generation=generation, edition=edition)


def read_generations(output: Output) -> Mapping[str, int]:
    """Return the generation of each shard that was reopened, by the name of the shard.

    Raises:
        InputError: the file cannot be read.
    """
    return read_state(output).generations


def open_again(output: Output, shards: Iterable[Shard], units: Iterable[Ended]) -> None:
    """Open the next generation of shards, in which units are tried again."""
    state = read_state(output)
    opened = {str(shard): shard.generation + 1 for shard in shards}
    generations = {**state.generations, **opened}
    _write(output, replace(state, generations=generations, forgiven=tuple(units)))
    complete_opening(output)


def open_edition(
    output: Output, shards: Iterable[Shard], removed: Mapping[str, int], units: Iterable[Ended]
) -> None:
    """Open the next generation of shards for edited stories or settings.

    Args:
        shards: with their present generation.
        removed: by the names of shards, the number of stories that they lose.
        units: those that are certainly open again.
    """
    state = read_state(output)
    opened = {str(shard): shard.generation + 1 for shard in shards}
    lost = {name: state.removed.get(name, 0) + number for name, number in removed.items()}
    edited = replace(
        state,
        generations={**state.generations, **opened},
        editions={**state.editions, **opened},
        removed={**state.removed, **lost},
        forgiven=tuple(units),
    )
    _write(output, edited)
    complete_opening(output)


def complete_opening(output: Output) -> None:
    """Remove the records of units that are to be tried again; only for the holder of the lock."""
    state = read_state(output)
    if not state.forgiven:
        return
    names: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for unit in state.forgiven:
        names[unit.stage, unit.shard].append(unit.name)
    for (stage, shard), units in names.items():
        forgive(output, stage, _shard(shard), units)
    _write(output, replace(state, forgiven=()))


def read_state(output: Output) -> Generations:
    """Read the generations of a job.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        state = output.read_record(GENERATIONS, Generations)
    except FileNotFoundError:
        return Generations()
    for name in (*state.generations, *state.editions, *state.removed):
        _shard(name)
    return state


def _shard(name: str) -> Shard:
    if (shard := Shard.of_manifest(f"{name}.parquet")) is None:
        raise InputError(f"{GENERATIONS}: {name!r} is not the name of a shard")
    return shard


def _write(output: Output, state: Generations) -> None:
    output.publish(GENERATIONS, to_json(state))
