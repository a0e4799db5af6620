"""The control record of a job: pause, limits, window, priority and approval, beside its `job.json`.

Commands and the Prefect side write it, from any machine; the running flow polls it. There is no
other channel to a running flow. Each change is a new numbered file, which only one writer can
create, so that of two simultaneous changes neither is lost; the newest file is the current record.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, ValidationError

from storyreel.flows.job.description import JOB
from storyreel.flows.job.window import Window
from storyreel.stages.errors import InputError
from storyreel.stages.output.storage import Output
from storyreel.stages.settings import Settings
from storyreel.stages.validation import explain

CONTROL = "control"

DIGITS = 6
"""Digits of the number of a control record, at least."""

DEFAULT_PRIORITY = 5

ALWAYS = "always"
"""Value of `window` for a job that may run at any hour, whatever its configuration says."""


class Cancel(StrEnum):
    """A request to stop the run of a job before the job is finished."""

    NO = "no"
    DRAIN = "drain"
    """Finish the units in flight and start no other."""
    NOW = "now"
    """Discard the units in flight; they are rendered again if the job is continued."""


class Approval(StrEnum):
    """The state of a sample that a person must approve before the rest is rendered."""

    NOT_NEEDED = "not_needed"
    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"


def _known_window(text: str | None) -> str | None:
    return text if text is None or text == ALWAYS else str(Window.parse(text))


class ControlRecord(Settings):
    """Requests of people to a job; a field that nobody has set leaves the configuration's value."""

    paused: bool = False
    """Start no new unit; the run waits, and stops its actors after `execution.keep_paused_s`."""
    cancel: Cancel = Cancel.NO
    priority: int = Field(default=DEFAULT_PRIORITY, ge=1, le=9)
    """The waiting job with the highest priority runs next."""
    limits: Mapping[Literal["render", "assembly"], PositiveInt] = {}
    """Number of actors by pool, instead of the configured number."""
    window: Annotated[str | None, AfterValidator(_known_window)] = None
    """Hours in which the job may run, such as `22:00-06:00 Europe/Berlin`; or `always`."""
    approval: Approval = Approval.NOT_NEEDED


def read_control(output: Output) -> ControlRecord:
    """Read the control record of the job at `output`; all defaults if there is none.

    Raises:
        InputError: the record is damaged; names the file.
    """
    return _read(output)[1]


def update_control(output: Output, **changes: Any) -> ControlRecord:
    """Change some fields of the control record; `limits` of other pools are kept.

    Raises:
        InputError: there is no job at `output`, or a value is not allowed.
    """
    if not output.exists(JOB):
        raise InputError(f"output {output.url}: holds no job")
    while True:
        number, control = _read(output)
        changed = _change(control, changes)
        if changed == control:
            return control
        if output.publish_new(_path(number + 1), changed.model_dump_json(indent=1).encode()):
            return changed
        # Somebody else was faster with this number: apply our change to their record.


def parse_limits(pairs: Iterable[str]) -> dict[str, int]:
    """Parse `POOL=N` pairs to numbers of actors by pool.

    Raises:
        InputError: a pair has another form.
    """
    limits = {}
    for pair in pairs:
        pool, _, number = pair.partition("=")
        if not (pool and number.isdecimal()):
            raise InputError(f"--limit {pair!r}: must be POOL=N, such as render=2")
        limits[pool] = int(number)
    return limits


def _path(number: int) -> str:
    return f"{CONTROL}/{number:0{DIGITS}d}.json"


def _read(output: Output) -> tuple[int, ControlRecord]:
    numbers = output.numbers(CONTROL, DIGITS)
    if not numbers:
        return 0, ControlRecord()
    number = numbers[-1]
    content = output.read(_path(number))
    try:
        return number, ControlRecord.model_validate_json(content)
    except ValidationError as error:
        raise InputError(f"{_path(number)}: {explain(error)}") from error


def _change(control: ControlRecord, changes: Mapping[str, Any]) -> ControlRecord:
    values = {**control.model_dump(), **changes}
    values["limits"] = dict(control.limits) | dict(changes.get("limits", {}))
    try:
        return ControlRecord.model_validate(values)
    except ValidationError as error:
        raise InputError(explain(error)) from error
