"""Duration and size of a job's units, measured while it is rendered.

They say whether a unit still fits into the render window, and how long another job, or the next
night of this one, will take. They are stored in `rates.json` at the output.
"""

import json
import math
import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from storyreel.flows.job.stage_table import StageSpec, StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.output.records import files_of
from storyreel.stages.output.storage import Output

RATES = "rates.json"

NUM_RECENT = 2048
"""Units of a stage whose durations are kept one by one; older ones only count in the mean."""

NUM_PARTS = 20
"""Equal parts into which the stored quantiles divide the durations of a stage's units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRate:
    """The cost of a unit of a stage on one actor.

    Attributes:
        quantiles_s: `NUM_PARTS + 1` durations of recent units, from the shortest to the longest.
        items_per_unit: mean of what the work of a unit grows with (`StageSpec.items`): panels of a
            story, rendered frames of a shot, frames of a film.
        bytes_per_unit: mean size of the files of a unit.
        hardware: hardware class of the workers, empty if it is not known.
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
        """The longest duration of the recent units, seconds."""
        return self.quantiles_s[-1]


class StageMeter:
    """Measures one stage; not thread-safe."""

    def __init__(self, spec: StageSpec, earlier: StageRate | None = None) -> None:
        """Start empty, or continue what an earlier run of the job measured."""
        self._count_items = spec.items
        self._count = earlier.num_units if earlier else 0
        self._mean = earlier.mean_s if earlier else 0.0
        self._squares = earlier.variance_s2 * (self._count - 1) if earlier else 0.0
        self._recent = deque(earlier.quantiles_s if earlier else (), maxlen=NUM_RECENT)
        self._made = self._count
        self._items = earlier.items_per_unit * self._made if earlier else 0.0
        self._bytes = earlier.bytes_per_unit * self._made if earlier else 0.0
        self._hardware = earlier.hardware if earlier else ""

    def took(self, seconds: float) -> None:
        """Add the duration of a unit on its worker (Welford's update)."""
        self._count += 1
        difference = seconds - self._mean
        self._mean += difference / self._count
        self._squares += difference * (seconds - self._mean)
        self._recent.append(seconds)

    def made(self, records: tuple[Any, ...]) -> None:
        """Add the records of a unit."""
        self._made += 1
        self._items += self._count_items(records)
        self._bytes += sum(file.size for record in records for file in files_of(record))

    def ran_on(self, hardware: str) -> None:
        """Store the hardware class of the workers with the rate."""
        self._hardware = hardware

    def quantile(self, share: float) -> float | None:
        """The duration that this share of the recent units does not exceed, seconds."""
        if not self._recent:
            return None
        ordered = sorted(self._recent)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    def rate(self) -> StageRate | None:
        """The rate so far; `None` before the first unit."""
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
    """The meters of all stages of a run; its methods may be called from any thread."""

    def __init__(self, earlier: dict[str, StageRate], stages: StageTable = STAGES) -> None:
        self._lock = threading.Lock()
        self._meters = {spec.name: StageMeter(spec, earlier.get(spec.name)) for spec in stages}

    def took(self, stage: str, seconds: float) -> None:
        """Add the duration of a unit on its worker."""
        with self._lock:
            self._meters[stage].took(seconds)

    def made(self, stage: str, records: tuple[Any, ...]) -> None:
        """Add the records of a unit."""
        with self._lock:
            self._meters[stage].made(records)

    def ran_on(self, stage: str, hardware: str) -> None:
        """Store the hardware class of the workers that run a stage."""
        with self._lock:
            self._meters[stage].ran_on(hardware)

    def quantile(self, stage: str, share: float) -> float | None:
        """The duration that this share of a stage's recent units does not exceed, seconds."""
        with self._lock:
            return self._meters[stage].quantile(share)

    def rates(self) -> dict[str, StageRate]:
        """The rates so far, by stage; stages without a unit are left out."""
        with self._lock:
            rates = {stage: meter.rate() for stage, meter in self._meters.items()}
        return {stage: rate for stage, rate in rates.items() if rate is not None}


def read_rates(output: Output) -> dict[str, StageRate]:
    """Read the rates of the job at `output`, by stage; empty if none were measured yet."""
    try:
        return output.read_record(RATES, dict[str, StageRate])
    except FileNotFoundError:
        return {}


def write_rates(output: Output, rates: dict[str, StageRate]) -> None:
    """Store the rates at the job's output."""
    content = {stage: asdict(rate) for stage, rate in rates.items()}
    output.publish(RATES, json.dumps(content, indent=1).encode())
