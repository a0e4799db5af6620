import dataclasses
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from storyreel.stages.errors import InputError
from storyreel.stages.output import serialization
from storyreel.stages.output.commits import Commit
from storyreel.stages.output.records import (
    Character,
    Clip,
    Failure,
    Film,
    Keyframe,
    Panel,
    PanelInput,
    Shot,
    ShotKind,
    Story,
)
from storyreel.stages.output.serialization import from_json, from_table, schema_of, to_row, to_table

STORY = Story(
    story_id="fox",
    source_file="stories.jsonl",
    source_row=3,
    text=None,
    panels=(
        PanelInput(text="[Zoë] läuft", caption=None, shot=ShotKind.CUT, beats=2),
        PanelInput(text="", caption="…", shot=ShotKind.MOTION, beats=None),
    ),
    characters=(Character(name="Zoë", description="a girl", reference_image=None),),
    style="",
    negative_prompt="",
    seed=0,
    duration_s=None,
)


def test_a_story_survives_parquet_and_comes_back_equal() -> None:
    assert from_table(Story, to_table(Story, [STORY])) == [STORY]


def test_a_story_survives_json_and_comes_back_equal() -> None:
    assert from_json(Story, as_json(to_row(STORY))) == STORY


@pytest.mark.parametrize("record", [Story, Panel, Shot, Keyframe, Clip, Film, Failure])
def test_a_schema_names_the_fields_of_its_record_in_order(record: type) -> None:
    assert schema_of(record).names == [field.name for field in dataclasses.fields(record)]


def test_only_optional_fields_may_be_empty_in_a_manifest() -> None:
    nullable = {field.name for field in schema_of(Story) if field.nullable}
    assert nullable == {"text", "duration_s", "language"}


def test_a_table_of_another_record_is_refused_by_a_field_that_it_lacks() -> None:
    with pytest.raises(InputError, match=r"Story.*\[0\]\.source_file: is missing"):
        from_table(Story, pa.Table.from_pylist([{"story_id": "fox"}]))


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("source_row", "3", "must be a valid integer"),
        ("source_row", 3.0, "must be a valid integer"),
        ("source_row", True, "must be a valid integer"),
        ("story_id", 3, "must be a valid string"),
        ("duration_s", "60", "must be a valid number"),
        ("style", None, "must be a valid string"),
        ("panels", {}, "must be a valid array"),
        ("story_id", "../fox", "must be 1 to 100 of"),
    ],
)
def test_a_value_of_another_type_is_refused_and_never_converted(
    field: str, value: Any, rule: str
) -> None:
    with pytest.raises(InputError, match=rf"^Story: {field}: .*{rule}"):
        from_json(Story, as_json({**to_row(STORY), field: value}))


@pytest.mark.parametrize(("field", "value"), [("source_row", "3"), ("style", 3), ("seed", 0.5)])
def test_a_column_of_another_type_is_refused_and_never_converted(field: str, value: Any) -> None:
    table = pa.Table.from_pylist([{**to_row(STORY), field: value}])
    with pytest.raises(InputError, match=f"^Story: .*Field {field} has incompatible types"):
        from_table(Story, table)


def test_a_column_of_a_nested_record_has_its_type_too() -> None:
    (row,) = to_table(Story, [STORY]).to_pylist()
    row["characters"][0]["name"] = 7
    with pytest.raises(InputError, match="Field characters has incompatible types"):
        from_table(Story, pa.Table.from_pylist([row]))


def test_a_whole_number_is_a_number() -> None:
    assert from_json(Story, as_json({**to_row(STORY), "duration_s": 60})).duration_s == 60.0


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"3", b"null"])
def test_what_is_not_a_record_in_json_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"^Story: "):
        from_json(Story, content)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../../b", "..", "a\0b"])
def test_a_path_that_leads_out_of_the_output_is_refused(path: str) -> None:
    keyframe = Keyframe(
        story_id="fox", keyframe_index=0, path=path, size=1, sha256="", width=8, height=8, seed=0
    )
    for read in (
        lambda: from_table(Keyframe, to_table(Keyframe, [keyframe])),
        lambda: from_json(Keyframe, as_json(to_row(keyframe))),
    ):
        with pytest.raises(InputError, match=r"path: .*must be a path inside the output"):
            read()


# The same record in three versions of the program.


@dataclass(frozen=True, slots=True, kw_only=True)
class OldTake:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Take(OldTake):
    score: float | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTake(Take):
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OldReel:
    takes: tuple[OldTake, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reel:
    takes: tuple[Take, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReel:
    takes: tuple[NewTake, ...]


OLD = OldReel(takes=(OldTake(name="a"),))
NOW = Reel(takes=(Take(name="a", score=0.5, tags=("b",)),))
NEW = NewReel(takes=(NewTake(name="a", score=0.5, tags=("b",), model="c"),))


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The warnings of a process that has read no record yet."""
    serialization._warn_of_unknown.cache_clear()
    with caplog.at_level(logging.WARNING):
        yield caplog


def test_a_field_that_an_older_version_did_not_know_has_its_default(
    warnings: pytest.LogCaptureFixture,
) -> None:
    expected = Reel(takes=(Take(name="a"),))
    assert from_json(Reel, as_json(to_row(OLD))) == expected
    assert from_table(Reel, to_table(OldReel, [OLD])) == [expected]
    assert not warnings.messages


def test_a_field_that_only_a_newer_version_knows_is_ignored_with_one_warning(
    warnings: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        assert from_json(Reel, as_json(to_row(NEW))) == NOW
    assert warnings.messages == [
        "Reel: the unknown field takes.model is ignored; a newer version of Storyreel wrote it"
    ]


def test_a_column_that_only_a_newer_version_knows_is_ignored_with_one_warning(
    warnings: pytest.LogCaptureFixture,
) -> None:
    assert from_table(Reel, to_table(NewReel, [NEW, NEW])) == [NOW, NOW]
    assert warnings.messages == [
        "list[Reel]: the unknown field takes.model is ignored;"
        " a newer version of Storyreel wrote it"
    ]


def test_a_field_without_default_may_not_be_missing_in_any_version() -> None:
    with pytest.raises(InputError, match=r"NewReel.*takes\[0\]\.model: is missing"):
        from_json(NewReel, as_json(to_row(NOW)))
    with pytest.raises(InputError, match=r"NewReel.*takes\[0\]\.model: is missing"):
        from_table(NewReel, to_table(Reel, [NOW]))


def test_what_else_is_wrong_beside_an_unknown_field_is_an_error(
    warnings: pytest.LogCaptureFixture,
) -> None:
    row = {"takes": [{"name": 3, "model": "c"}]}
    with pytest.raises(InputError, match=r"^Reel: takes\[0\]\.name: 3: must be a valid string$"):
        from_json(Reel, as_json(row))


def test_a_commit_record_of_a_newer_version_can_be_read(warnings: pytest.LogCaptureFixture) -> None:
    commit = Commit(records=NEW.takes, attempts=1, worker="w", seconds=1.0, hardware="cpu")
    row = {**to_row(commit), "host": "h"}
    assert from_json(Commit[Take], as_json(row)).records == NOW.takes
    assert len(warnings.messages) == 2


def as_json(row: Any) -> bytes:
    return json.dumps(row).encode()
