"""Writes records as JSON and as Parquet tables, and reads them across versions (see `records`)."""

import dataclasses
import json
import logging
import types
import typing
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from storyreel.stages.errors import InputError
from storyreel.stages.validation import explain, field_path

T = TypeVar("T")

logger = logging.getLogger(__name__)


def schema_of(record: type) -> pa.Schema:
    """The Parquet schema of a record class, fields in order; only an `X | None` may be null."""
    hints = typing.get_type_hints(record)  # without the `Annotated` of a field's checks
    return pa.schema([_field(f.name, hints[f.name]) for f in dataclasses.fields(record)])


def _field(name: str, hint: Any) -> pa.Field:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (inner,) = (arg for arg in hint.__args__ if arg is not type(None))
        return pa.field(name, _arrow_type(inner), nullable=True)
    return pa.field(name, _arrow_type(hint), nullable=False)


def _arrow_type(hint: Any) -> pa.DataType:
    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if hint in plain:
        return plain[hint]
    if typing.get_origin(hint) is tuple:
        return pa.list_(pa.field("item", _arrow_type(hint.__args__[0]), nullable=False))
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(schema_of(typing.cast(type, hint))))
    assert issubclass(hint, StrEnum), hint
    return pa.string()


def to_row(record: Any) -> dict[str, Any]:
    """Return a record as a row of plain values."""
    return dataclasses.asdict(record)


def to_json(record: Any) -> bytes:
    """Return a record as a JSON document."""
    return json.dumps(to_row(record), indent=1, sort_keys=True, ensure_ascii=False).encode()


def to_table(record: type, records: Iterable[Any]) -> pa.Table:
    """Return records of class `record` as an Arrow table, in their order."""
    return pa.Table.from_pylist([to_row(r) for r in records], schema=schema_of(record))


def from_table(record: type[T], table: pa.Table) -> list[T]:
    """Return the rows of an Arrow table as records; `to_table` made it, perhaps in another version.

    Raises:
        InputError: a column without a default is missing, or a column or a value has another type.
    """
    try:
        # Compares the types of the columns, also of nested ones; either side may lack some.
        pa.unify_schemas([schema_of(record), table.schema])
    except pa.ArrowException as error:
        raise InputError(f"{record.__name__}: {error}") from error
    adapter: TypeAdapter[list[T]] = _adapter(list[record])  # type: ignore[valid-type]
    # Not strict: pydantic would refuse Arrow's lists and strings for tuples and enums. Text is not
    # taken for a number all the same, since the columns have the types of the fields.
    return _validated(partial(adapter.validate_python, table.to_pylist()))


def from_json(kind: type[T], content: bytes) -> T:
    """Return the record, or mapping of records, that a JSON document contains.

    Values must have the exact types of the fields: no text is taken for a number.

    Raises:
        InputError: `content` is not JSON, a field without a default is missing, or a value has
            another type.
    """
    adapter: TypeAdapter[T] = _adapter(typing.cast(Any, kind))
    return _validated(partial(adapter.validate_json, content, strict=True))


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # takes a millisecond, far more than a record


def _validated(validate: Callable[..., T]) -> T:
    """Validate with unknown fields forbidden; if there are some, warn and validate without them."""
    try:
        return validate(extra="forbid")
    except ValidationError as error:
        unknown = [p["loc"] for p in error.errors() if p["type"] == "unexpected_keyword_argument"]
        if not unknown:
            raise InputError(f"{error.title}: {explain(error)}") from error
        for location in unknown:
            _warn_of_unknown(error.title, tuple(p for p in location if isinstance(p, str)))
    try:
        return validate(extra="ignore")
    except ValidationError as error:
        raise InputError(f"{error.title}: {explain(error)}") from error


@lru_cache(maxsize=256)
def _warn_of_unknown(record: str, location: tuple[str, ...]) -> None:
    """Log a warning, once per field of a record class: a job has many records."""
    logger.warning(
        "%s: the unknown field %s is ignored; a newer version of Storyreel wrote it",
        record,
        field_path(location),
    )
