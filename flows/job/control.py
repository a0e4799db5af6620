"""The control record of a job: what people have asked of it, beside its `job.json`.

Commands and the Prefect side write it, from any machine; the running flow polls it. There is no
other way to steer a flow. Every change is a new numbered file that exactly one writer can create,
so that two changes at once both hold; the newest file is the record.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, ValidationError

from storyreel.flows.job.description import JOB
from storyreel.flows.job.window import Window
from storyreel.stages.input.story_rows import MAX_PROBLEMS, MAX_SHOWN, shorten
from storyreel.stages.output.storage import Output
from storyreel.stages.settings import Settings

CONTROL = "control"

DEFAULT_PRIORITY = 5

ALWAYS = "always"
"""The window of a job that may run at any hour, whatever its configuration says."""


class Cancel(StrEnum):
    """Whether a job is to end before it is finished."""

    NO = "no"
    DRAIN = "drain"
    """Units in flight are finished, nothing new starts."""
    NOW = "now"
    """Units in flight are thrown away; they are rendered again if the job goes on."""


class Approval(StrEnum):
    """Whether a person has to say yes between the sample of a job and the rest of it."""

    NOT_NEEDED = "not_needed"
    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"


def _known_window(text: str | None) -> str | None:
    return text if text is None or text == ALWAYS else str(Window.parse(text))


class Control(Settings):
    """What people have asked of a job; where they said nothing, its configuration holds."""

    paused: bool = False
    """Nothing new starts; the run waits and lets its actors go after a while."""
    cancel: Cancel = Cancel.NO
    priority: int = Field(default=DEFAULT_PRIORITY, ge=1, le=9)
    """Of the jobs that wait, the one with the highest is next."""
    limits: Mapping[Literal["render", "assembly"], PositiveInt] = {}
    """Actors of a pool, in place of its configured number."""
    window: Annotated[str | None, AfterValidator(_known_window)] = None
    """Hours in which the job may run, such as `22:00-06:00 Europe/Berlin`, or `always`."""
    approval: Approval = Approval.NOT_NEEDED


def read_control(output: Output) -> Control:
    """The control record of the job at `output`.

    Raises:
        ValueError: the record was damaged by hand; names the file.
    """
    return _read(output)[1]


def update_control(output: Output, **changes: Any) -> Control:
    """Change some fields of the control record; `limits` are laid over the ones that are there.

    Raises:
        ValueError: there is no job at `output`, or a value is not allowed.
    """
    if not output.exists(JOB):
        raise ValueError(f"output {output.url}: holds no job")
    while True:
        number, control = _read(output)
        changed = _change(control, changes)
        if changed == control:
            return control
        if output.publish_new(_path(number + 1), changed.model_dump_json(indent=1).encode()):
            return changed  # else somebody else changed it meanwhile: ours goes on top of that


def parse_limits(pairs: Iterable[str]) -> dict[str, int]:
    """The limits that `pool=actors` pairs say.

    Raises:
        ValueError: a pair has another form.
    """
    limits = {}
    for pair in pairs:
        pool, _, number = pair.partition("=")
        if not (pool and number.isdecimal()):
            raise ValueError(f"--limit {pair!r}: must be POOL=N, such as render=2")
        limits[pool] = int(number)
    return limits


def _path(number: int) -> str:
    return f"{CONTROL}/{number:06d}.json"


def _read(output: Output) -> tuple[int, Control]:
    names = output.names(CONTROL)
    if not names:
        return 0, Control()
    number = int(names[-1].removesuffix(".json"))
    content = output.read(_path(number))
    try:
        return number, Control.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"{_path(number)}: {_explain(error)}") from error


def _change(control: Control, changes: Mapping[str, Any]) -> Control:
    values = {**control.model_dump(), **changes}
    values["limits"] = dict(control.limits) | dict(changes.get("limits", {}))
    try:
        return Control.model_validate(values)
    except ValidationError as error:
        raise ValueError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False)[:MAX_PROBLEMS]
    keys = [".".join(str(part)[:MAX_SHOWN] for part in problem["loc"]) for problem in problems]
    return "; ".join(
        f"{key} = {shorten(problem['input'])}: {problem['msg']}"
        for key, problem in zip(keys, problems, strict=True)
    )
