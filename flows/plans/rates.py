"""How long the units of a job took and how large they are, measured while it is rendered.

The window's controller asks for the length of a unit; `rates.json` at the output keeps it all for
the plan of another job and for the next night of this one.
"""

import json
import math
import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from storyreel.flows.run.shards import STAGES
from storyreel.stages.output.records import Clip, Film, Keyframe, ShotKind, from_row
from storyreel.stages.output.storage import Output

RATES = "rates.json"

NUM_RECENT = 2048
"""Units of a stage whose lengths are kept one by one; older ones only count in the mean."""

NUM_PARTS = 20
"""Equal parts into which the kept quantiles cut the lengths of a stage's units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRate:
    """What a unit of a stage takes on one actor.

    `quantiles_s` holds `NUM_PARTS + 1` values from the shortest to the longest of the recent units,
    seconds. An item is what the work of a unit grows with: a story to split, a panel to render, a
    frame of motion to render, a frame of a film.
    """

    num_units: int
    mean_s: float
    variance_s2: float
    quantiles_s: tuple[float, ...]
    items_per_unit: float
    bytes_per_unit: float
    hardware: str

    @property
    def longest_s(self) -> float:
        """The longest of the recent units, seconds."""
        return self.quantiles_s[-1]


class StageMeter:
    """Measures one stage; its owner sees to it that one thread at a time does."""

    def __init__(self, earlier: StageRate | None = None) -> None:
        """Start from nothing, or go on from what an earlier run of the job measured."""
        self._count = earlier.num_units if earlier else 0
        self._mean = earlier.mean_s if earlier else 0.0
        self._squares = earlier.variance_s2 * (self._count - 1) if earlier else 0.0
        self._recent = deque(earlier.quantiles_s if earlier else (), maxlen=NUM_RECENT)
        self._made = self._count
        self._items = earlier.items_per_unit * self._made if earlier else 0.0
        self._bytes = earlier.bytes_per_unit * self._made if earlier else 0.0
        self._hardware = earlier.hardware if earlier else ""

    def took(self, seconds: float) -> None:
        """A unit was committed after so many seconds on its worker (Welford's update)."""
        self._count += 1
        difference = seconds - self._mean
        self._mean += difference / self._count
        self._squares += difference * (seconds - self._mean)
        self._recent.append(seconds)

    def made(self, records: tuple[Any, ...]) -> None:
        """A unit came to these records."""
        self._made += 1
        self._items += count_items(records)
        self._bytes += _count_bytes(records)

    def ran_on(self, hardware: str) -> None:
        """Units run on hardware of this class; it is kept with the rate."""
        self._hardware = hardware

    @property
    def knows_hardware(self) -> bool:
        """Whether `ran_on` was called, by this run or an earlier one."""
        return bool(self._hardware)

    def quantile(self, share: float) -> float | None:
        """The length that so large a share of the recent units does not exceed, seconds."""
        if not self._recent:
            return None
        ordered = sorted(self._recent)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    def rate(self) -> StageRate | None:
        """What was measured so far; nothing before the first unit."""
        if not self._count:
            return None
        parts = range(NUM_PARTS + 1)
        return StageRate(
            num_units=self._count,
            mean_s=self._mean,
            variance_s2=self._squares / (self._count - 1) if self._count > 1 else 0.0,
            quantiles_s=tuple(self.quantile(part / NUM_PARTS) or 0.0 for part in parts),
            items_per_unit=self._items / max(1, self._made),
            bytes_per_unit=self._bytes / max(1, self._made),
            hardware=self._hardware,
        )


class Meters:
    """The meters of all stages of a run; called from the pools' and the tasks' threads."""

    def __init__(self, earlier: dict[str, StageRate]) -> None:
        self._lock = threading.Lock()
        self._meters = {stage: StageMeter(earlier.get(stage)) for stage in STAGES}

    def took(self, stage: str, seconds: float) -> None:
        """A unit was committed after so many seconds on its worker."""
        with self._lock:
            self._meters[stage].took(seconds)

    def made(self, stage: str, records: tuple[Any, ...]) -> None:
        """A unit came to these records."""
        with self._lock:
            self._meters[stage].made(records)

    def ran_on(self, stage: str, hardware: str) -> None:
        """Units of a stage run on hardware of this class."""
        with self._lock:
            self._meters[stage].ran_on(hardware)

    def knows_hardware(self, stage: str) -> bool:
        """Whether it is known what units of a stage run on."""
        with self._lock:
            return self._meters[stage].knows_hardware

    def quantile(self, stage: str, share: float) -> float | None:
        """The length that so large a share of a stage's recent units does not exceed, seconds."""
        with self._lock:
            return self._meters[stage].quantile(share)

    def rates(self) -> dict[str, StageRate]:
        """What was measured so far, by stage."""
        with self._lock:
            rates = {stage: meter.rate() for stage, meter in self._meters.items()}
        return {stage: rate for stage, rate in rates.items() if rate is not None}


def read_rates(output: Output) -> dict[str, StageRate]:
    """The rates that the job at `output` measured, by stage; none if it measured nothing yet."""
    try:
        return output.read_json(
            RATES, lambda rates: {stage: from_row(StageRate, rates[stage]) for stage in rates}
        )
    except FileNotFoundError:
        return {}


def write_rates(output: Output, rates: dict[str, StageRate]) -> None:
    """Keep the rates at the job's output."""
    content = {stage: asdict(rate) for stage, rate in rates.items()}
    output.publish(RATES, json.dumps(content, indent=1).encode())


def count_items(records: tuple[Any, ...]) -> int:
    """What the work of a unit grows with; only rendered motion counts of a unit of motion."""
    first = records[0]
    if isinstance(first, Clip):
        return sum(clip.num_frames for clip in records if clip.kind is ShotKind.MOTION)
    if isinstance(first, Film):
        return sum(film.num_frames for film in records)
    return len(records)


def _count_bytes(records: tuple[Any, ...]) -> int:
    return sum(_size(record) for record in records)


def _size(record: Any) -> int:
    if isinstance(record, Film):
        return record.size + record.subtitles_size + record.sheet_size
    return record.size if isinstance(record, Keyframe | Clip) else 0
