"""Checks values that come from outside the program, and words what pydantic finds wrong with them.

A problem reads `films.fps: 4: must be greater than or equal to 8`: the field, the value, the rule.
"""

import reprlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from storyreel.stages.errors import InputError

M = TypeVar("M", bound=BaseModel)

MAX_PROBLEMS = 3
"""Problems that a message lists; of the others it gives the number."""
MAX_SHOWN = 60
"""Characters of a value, or of a key, that a message repeats."""

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 2 * MAX_SHOWN


def validated(model: type[M], values: Any, place: str) -> M:
    """Validate `values`; `place`, such as a file's name, begins the message of an error.

    Raises:
        InputError: names the place, the field, the value and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{place}: {explain(error, model)}") from error


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Describe the first problems of a validation error on one line.

    Args:
        error: raised by a pydantic model or adapter.
        model: the model, if the known keys are to be listed where a key is unknown.
    """
    problems = error.errors(include_url=False)
    texts = [_describe(problem, model) for problem in problems[:MAX_PROBLEMS]]
    more = len(problems) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more else "")


def shorten(value: Any) -> str:
    """`value` as a message repeats it; only the beginning of a huge value is looked at."""
    text = repr(value[: MAX_SHOWN * 2]) if isinstance(value, str) else _SHOWN.repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def field_path(location: Sequence[int | str]) -> str:
    """A pydantic location such as `("panels", 0, "text")` as `panels[0].text`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part[:MAX_SHOWN]}" for part in location)
    return "".join(parts).removeprefix(".")


def _describe(problem: Any, model: type[BaseModel] | None) -> str:
    location = problem["loc"]
    rule = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not location:  # a rule between several fields, which the message names
        return str(rule)
    field = field_path(location)
    if problem["type"] == "extra_forbidden":
        return f"{field}: unknown key{_known_keys(model, location[:-1])}"
    if problem["type"] == "missing":
        return f"{field}: is missing"
    return f"{field}: {shorten(problem['input'])}: {rule[:1].lower()}{rule[1:]}"


def _known_keys(model: type[BaseModel] | None, location: Sequence[int | str]) -> str:
    models = [] if model is None else [model]
    for part in location:
        of_kind = [one for one in models if _kind(one) == part]
        if of_kind:  # pydantic names the member of a union by its tag
            models = of_kind
        elif isinstance(part, str):
            field = models[0].model_fields.get(part) if models else None
            models = [] if field is None else list(_models_in(field.annotation))
    return f"; known are {', '.join(models[0].model_fields)}" if models else ""


def _kind(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("kind")
    return None if field is None else field.default


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models in an annotation such as `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
