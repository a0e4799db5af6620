import dataclasses

import pyarrow as pa
import pytest

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
    from_row,
    schema_of,
    to_row,
)

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
    table = pa.Table.from_pylist([to_row(STORY)], schema=schema_of(Story))
    assert from_row(Story, table.to_pylist()[0]) == STORY


@pytest.mark.parametrize("record", [Story, Panel, Shot, Keyframe, Clip, Film, Failure])
def test_a_schema_names_the_fields_of_its_record_in_order(record: type) -> None:
    assert schema_of(record).names == [field.name for field in dataclasses.fields(record)]


def test_only_optional_fields_may_be_empty_in_a_manifest() -> None:
    nullable = {field.name for field in schema_of(Story) if field.nullable}
    assert nullable == {"text", "duration_s"}


def test_a_row_of_another_table_is_refused_by_its_fields() -> None:
    with pytest.raises(ValueError, match="Story: fields"):
        from_row(Story, {"story_id": "fox"})


def test_a_row_with_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="'three' is not of type int"):
        from_row(Story, {**to_row(STORY), "source_row": "three"})
