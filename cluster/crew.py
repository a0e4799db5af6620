"""The actors of one pool: started, counted, killed; of units it only knows who has which."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import ray

from storyreel.cluster.config import PoolConfig
from storyreel.cluster.nodes import Nodes
from storyreel.cluster.places import Claim, Places
from storyreel.cluster.queue import Entry
from storyreel.cluster.worker import Worker
from storyreel.stages.heartbeat import Pulse
from storyreel.stages.output.storage import Output
from storyreel.stages.units import StageFactory

MAX_BACKOFF_S = 60.0
MAX_PAUSE_S = 2.0
"""Time between two signs of life that an actor is asked for, at most; seconds."""

STATES = ("placing", "loading", "idle", "busy")
"""States of an actor, in the order of its life."""

HEARTBEAT = "heartbeat"
"""Ray's concurrency group, a thread of its own, for the calls that must not wait for a unit."""

_TWO_THREADS: dict[str, Any] = {"concurrency_groups": {HEARTBEAT: 1}}

logger = logging.getLogger(__name__)


class Call(StrEnum):
    """The remote calls of an actor."""

    PLACE = "place"
    LOAD = "load"
    BEAT = "beat"
    RUN = "run"


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """One actor: waits for a place until it has a `node`, loads until `loaded`, then takes units.

    `due` is when it must have loaded or done its unit, `heard_by` when it must have been heard of,
    both on the monotonic clock.
    """

    name: str
    label: str
    actor: Any
    avoiding: frozenset[str]
    node: str = ""
    loaded: bool = False
    alive: bool = True
    entry: Entry | None = None
    due: float = math.inf
    heard_by: float = math.inf
    pulse: Pulse = field(default_factory=Pulse)
    failed_units: set[str] = field(default_factory=set)

    @property
    def deadline(self) -> float:
        """When it counts as hanging, if nothing comes before."""
        return min(self.due, self.heard_by)

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if not self.node:
            return "placing"
        if not self.loaded:
            return "loading"
        return "idle" if self.entry is None else "busy"

    @property
    def is_idle(self) -> bool:
        """True if the actor is ready for a unit."""
        return self.loaded and self.alive and self.entry is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The stages that the actors of a pool hold, where they publish, and the places they share."""

    name: str
    stages: Mapping[str, StageFactory]
    output: Output
    num_threads: int
    places: Places


Answered = Callable[[Member, Call, Future[Any]], None]
"""Called from one of Ray's threads when an actor has answered, or has died."""


class Crew:
    """The actors of one pool. All its methods are called from the pool's thread."""

    def __init__(self, contents: Contents, config: PoolConfig, answered: Answered) -> None:
        self._contents = contents
        self._config = config
        self._answered = answered
        self._members: list[Member] = []
        self._limit = config.num_actors
        self._num_started = 0
        self._start_after = 0.0
        self._stranded_at = math.inf
        self.nodes = Nodes(config.needs())
        self.load_failures = 0
        """Actors that failed to load since one last did."""
        self.failing_since = math.inf
        """When the first of them failed, on the monotonic clock."""

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members))

    def count(self) -> dict[str, int]:
        """The number of actors in each state; may be called from any thread."""
        counted = dict.fromkeys(STATES, 0)
        for member in self:
            counted[member.state] += 1
        return counted

    def placed(self) -> list[Member]:
        """The actors that have a process, in the order of their start."""
        return [m for m in self._members if m.node]

    def idle(self) -> list[Member]:
        """The actors that can take a unit."""
        return [m for m in self._members if m.is_idle]

    def entries(self) -> list[Entry]:
        """The units in flight."""
        return [m.entry for m in self._members if m.entry is not None]

    def next_deadline(self) -> float:
        """When, on the monotonic clock, something here is due at the latest."""
        due = [m.deadline for m in self._members]
        if self._start_after > time.monotonic():
            due.append(self._start_after)
        return min([*due, self.stranded_by], default=math.inf)

    @property
    def stranded_by(self) -> float:
        """When the pool has waited for long enough for any actor to find a place."""
        if self._contents.places.is_promised(self._contents.name):
            return math.inf
        return self._stranded_at + self._config.placement_timeout_s

    def resize(self, limit: int) -> None:
        """Have at most so many actors from now on."""
        self._limit = limit

    def fit(self, num_units: int) -> None:
        """Stop surplus actors; start missing ones for so many units, each after its delay."""
        self._release()
        claims = self._contents.places.claims_on(self._contents.name)
        for claim in claims:
            self._make_room(claim)
        limit = max(1, len(self.placed())) if claims else self._limit
        wanted = min(limit, self._limit, num_units)
        while len(self._members) < wanted and time.monotonic() >= self._start_after:
            self._start()
        self._ask_for_place(is_wanted=wanted > 0)

    def _ask_for_place(self, *, is_wanted: bool) -> None:
        """Claim a place of the other pools if units wait and no actor has one."""
        places, name = self._contents.places, self._contents.name
        if is_wanted and self._members and not self.placed():
            places.claim(name, self._config.needs())
        else:
            places.withdraw(name)
        if not is_wanted or self.placed():
            self._stranded_at = math.inf
        elif self._stranded_at == math.inf:
            self._stranded_at = time.monotonic()

    def _make_room(self, claim: Claim) -> None:
        """Let another pool have one place: stop waiting for more, and give one up if that helps."""
        waiting = [m for m in self._members if not m.node]
        for member in waiting if self.placed() else waiting[1:]:
            self.remove(member)
        if len(self.placed()) < 2:
            return
        fitting = Nodes(claim.needs).fitting()
        given = [m for m in self.placed() if m.node in fitting]
        claim.promised |= bool(given)
        for member in [m for m in given if m.is_idle][-1:]:
            if self._contents.places.grant(claim):
                logger.info("%s: stops: another pool has no place for an actor", member.label)
                self.remove(member)

    def disband(self) -> None:
        """Kill all actors, and claim no place any more."""
        for member in self:
            self.remove(member)
        self._contents.places.withdraw(self._contents.name)

    def _release(self) -> None:
        avoided = self.nodes.avoided()
        for member in self:
            free = not member.node or member.is_idle
            surplus = len(self._members) > self._limit
            misplaced = member.node in avoided if member.node else member.avoiding - avoided
            if free and (surplus or misplaced):
                self.remove(member)

    def hand(self, member: Member, entry: Entry) -> None:
        """Give a unit to an idle actor."""
        member.entry = entry
        self._ask(member, Call.RUN, entry.work, entry.next_attempt())
        member.due = time.monotonic() + self._config.unit_timeout_s
        self._hear(member)

    def take(self, member: Member) -> Entry:
        """Take from an actor the unit that it has."""
        entry, member.entry, member.due = member.entry, None, math.inf
        assert entry is not None
        self._hear(member)
        return entry

    def settle(self, member: Member, node: str) -> None:
        """An actor has found its place; it loads its stages now."""
        member.node = node
        self._ask(member, Call.LOAD)
        member.due = time.monotonic() + self._config.load_timeout_s

    def welcome(self, member: Member, label: str) -> None:
        """An actor has loaded its stages."""
        member.loaded, member.label, member.due = True, label, math.inf
        self.load_failures = 0
        self.failing_since = math.inf
        self._start_after = 0.0
        self._hear(member)
        self._ask_beat(member)

    def follow(self, member: Member, pulse: Pulse) -> None:
        """An actor has told how far it is; time that storage took from its unit is given back."""
        member.due += pulse.waited_s - member.pulse.waited_s
        if member.entry is None or pulse.steps > member.pulse.steps:
            self._hear(member)
        if pulse.waits_for != member.pulse.waits_for:
            _report_wait(member, pulse.waits_for)
        member.pulse = pulse
        self._ask_beat(member)

    def excuse(self, seconds: float) -> None:
        """The pool's thread did not listen for so long, which is no silence of the actors."""
        # A loaded machine delays this thread as well as the actors; their answers may be waiting.
        for member in self._members:
            member.due += seconds
            member.heard_by += seconds

    def reject(self, member: Member) -> None:
        """An actor could not load its stages; the next one waits the longer, the more did not."""
        self.remove(member)
        now = time.monotonic()
        self.failing_since = min(self.failing_since, now)
        self._start_after = now + min(MAX_BACKOFF_S, 0.5 * 2.0 ** min(self.load_failures, 10))
        self.load_failures += 1
        loaded_elsewhere = any(other.loaded and other.node != member.node for other in self)
        if member.node and loaded_elsewhere:  # one that died while it started had no node yet
            self.nodes.strike(member.node, member.name)

    def remove(self, member: Member) -> None:
        """Kill an actor, dead or alive; what it still answers is nobody's."""
        # Kill, not a polite exit: a hung CUDA call does not return, and the GPU must be free.
        self._members.remove(member)
        ray.kill(member.actor)

    def _hear(self, member: Member) -> None:
        member.heard_by = time.monotonic() + self._config.step_timeout_s

    def _start(self) -> None:
        self._num_started += 1
        name = f"{self._contents.name}-{self._num_started}"
        avoiding = self.nodes.avoided()
        actor_class: Any = ray.remote(**_TWO_THREADS)(Worker)
        options = actor_class.options(
            num_cpus=self._config.num_cpus,
            # Reservations only: Ray does not limit what an actor really uses.
            num_gpus=self._config.num_gpus,
            memory=self._config.memory_mb * 2**20,
            resources=dict(self._config.resources),
            label_selector=_not_on(avoiding),
            # Ray must repeat nothing: it would run a unit that kills its process for ever, and a
            # restarted actor would have no models. The scheduler decides what follows a death.
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": environment(self._contents.num_threads)},
        )
        actor = options.remote(
            name=name, stages=self._contents.stages, output=self._contents.output
        )
        member = Member(name=name, label=name, actor=actor, avoiding=avoiding)
        self._members.append(member)
        self._ask(member, Call.PLACE, group=HEARTBEAT)
        logger.debug("%s: started", name)

    def _ask_beat(self, member: Member) -> None:
        pause = min(MAX_PAUSE_S, self._config.step_timeout_s / 4)
        self._ask(member, Call.BEAT, pause, group=HEARTBEAT)

    def _ask(self, member: Member, call: Call, *args: Any, group: str | None = None) -> None:
        method = getattr(member.actor, call.value)
        if group is not None:
            method = method.options(concurrency_group=group)
        # A future with a callback instead of ray.get: one thread serves any number of actors.
        future: Future[Any] = method.remote(*args).future()
        future.add_done_callback(lambda answer: self._answered(member, call, answer))


def _report_wait(member: Member, reason: str) -> None:
    if reason:
        logger.warning("%s: waits: %s", member.label, reason)
    else:
        logger.warning("%s: continues", member.label)


def _not_on(nodes: frozenset[str]) -> dict[str, str]:
    """Ray's label selector for all nodes but these."""
    return {"ray.io/node-id": f"!in({','.join(sorted(nodes))})"} if nodes else {}


def environment(num_threads: int) -> dict[str, str]:
    """The environment of an actor: with it, the bytes made do not depend on `num_cpus`."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    # Ray sets OMP_NUM_THREADS from num_cpus; sums then differ in their last bits.
    return dict.fromkeys(names, str(num_threads)) | {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        # Fragmented memory would fail calls that fit; stories differ in size.
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "TOKENIZERS_PARALLELISM": "false",
    }


def check_placeable(name: str, config: PoolConfig) -> None:
    """Raise ValueError where no node that the cluster has now can hold an actor of the pool."""
    nodes = Nodes(config.needs())
    if not nodes.fitting():
        raise ValueError(f"pool {name}: {nodes.explain()}")


def suits(entry: Entry, member: Member, placed: list[Member]) -> bool:
    """Return whether an actor may take a unit.

    Not the actor on which it failed; nor one on the same node, while there is another node.
    """

    def is_elsewhere(other: Member) -> bool:
        return other.name not in entry.failed_on and other.node not in entry.failed_nodes

    if not entry.failed_on:
        return True
    return member.name not in entry.failed_on and (
        is_elsewhere(member) or not any(map(is_elsewhere, placed))
    )
