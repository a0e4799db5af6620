"""Rows that are cheap to write and dear to read: refused, with a bound on memory and time."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.input.stories import read_stories
from storyreel.stages.prompts.cast.introductions import find_subjects
from storyreel.stages.prompts.sentences import merge_short, merge_to_count, split_sentences
from tests.stages.input.apart import read_apart

FOX = {"story_id": "fox", "text": "A fox ran."}


def refusal(folder: Path, row: dict[str, Any], **limits: int) -> str:
    """The message of a row that is refused beside one that is not."""
    path = folder / "stories.jsonl"
    path.write_text("\n".join(map(json.dumps, ({"story_id": "bad", **row}, FOX))))
    rejection, story = read_stories(str(path), InputConfig(**limits))
    assert isinstance(rejection, Rejection)
    assert story.story_id == "fox"
    return rejection.message.removeprefix(f"{path} row 1: ")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"text": "A. " * 40_000},
            "text: 120000 characters: at most 100000 are allowed (input.max_story_chars)",
        ),
        (
            {"panels": ["a fox"], "characters": [{"name": f"n{i}"} for i in range(20_000)]},
            "characters: 20000 characters: at most 100 are allowed (input.max_characters)",
        ),
        (
            {"panels": ["a fox"] * 1001},
            "panels: 1001 panels: at most 1000 are allowed (input.max_panels)",
        ),
        (
            {"panels": "a fox\n" * 1001},
            "panels: 1001 panels: at most 1000 are allowed (input.max_panels)",
        ),
        (
            {"panels": [{"text": "a fox", "beats": 100}] * 200},
            "panels: 20000 keyframes: at most 2000 are allowed (input.max_keyframes)",
        ),
        (
            {"panels": ["a fox", "b" * 5000]},
            "panels[1].text: 5000 characters: at most 4000 are allowed (input.max_field_chars)",
        ),
        (
            {"text": "A fox.", "style": "b" * 5000},
            "style: 5000 characters: at most 4000 are allowed (input.max_field_chars)",
        ),
        (
            {"panels": ["b" * 3000] * 40},
            "panels, characters and style: 120000 characters: at most 100000 are allowed"
            " (input.max_story_chars)",
        ),
        ({str(i): 1 for i in range(200_000)}, "the row: 200001 keys: at most 100 are allowed"),
    ],
)
def test_a_row_beyond_a_limit_is_told_its_size_what_is_allowed_and_the_key(
    tmp_path: Path, row: dict[str, Any], told: str
) -> None:
    assert refusal(tmp_path, row) == told


def test_a_limit_can_be_raised(tmp_path: Path) -> None:
    row = {"panels": [{"text": "a fox", "beats": 100}] * 2}
    assert "max_keyframes" in refusal(tmp_path, row, max_keyframes=199)
    path = tmp_path / "stories.jsonl"
    (story, _) = read_stories(str(path), InputConfig(max_keyframes=200))
    assert story.story_id == "bad"


def repeated(value: str, count: int) -> pa.DictionaryArray:
    """A column that has one value in each row, and is stored once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value]))


def test_a_small_parquet_file_that_stands_for_gigabytes_takes_little_memory(
    tmp_path: Path,
) -> None:
    columns = {"story_id": [f"s{i}" for i in range(20)], "text": repeated("x" * 64_000_000, 20)}
    path = tmp_path / "stories.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 10_000
    rows, memory = read_apart(path)
    assert len(rows) == 20
    assert "row 1: is too long: a row may have 4194304 bytes" in rows[0]
    assert memory < 600


def test_a_parquet_row_that_fits_no_memory_is_one_line_and_other_files_go_on(
    tmp_path: Path,
) -> None:
    count = 100_000_000
    zeros = pa.repeat(0, count)
    panels = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), zeros)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"story_id": ["a"], "panels": panels}), path, compression="zstd")
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    (tmp_path / "c.yaml").write_text(json.dumps(FOX))
    rows, memory = read_apart(tmp_path)
    assert len(rows) == 3
    assert "a.parquet" in rows[0]
    assert "b.parquet" in rows[1]
    assert rows[2] == "story fox"
    assert memory < 600


@pytest.mark.parametrize(
    "content",
    [
        "a: &a {k: 1}\n"
        + "".join(
            f"{after}: &{after} {{<<: [{','.join([f'*{name}'] * 9)}]}}\n"
            for name, after in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "[" * 3_000_000,
    ],
    ids=["merged", "deep"],
)
def test_a_yaml_file_that_grows_while_it_is_parsed_is_one_line(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "a.yaml").write_text(content)
    (tmp_path / "b.yaml").write_text(json.dumps(FOX))
    (bad, fox), memory = read_apart(tmp_path)
    assert "a.yaml: takes more" in bad
    assert fox == "story fox"
    assert memory < 600


def test_a_csv_line_of_any_length_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "stories.csv"
    path.write_text(f"story_id,text\nbad,{'x' * 60_000_000}\nfox,A fox ran.\n")
    (first, last), memory = read_apart(path)
    assert "row 1: is too long: a row may have 4194304 bytes" in first
    assert last == "story fox"
    assert memory < 100


def test_a_csv_record_of_any_number_of_lines_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "stories.csv"
    record = '"\n",' * 2_000_000
    path.write_text(f"story_id,text\nfox,A fox ran.\nbad,{record}\n")
    (fox, bad), memory = read_apart(path)
    assert fox == "story fox"
    assert "a record does not end within 4194304 bytes" in bad
    assert memory < 200


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "sentence",
    [
        "1. a 2. b ",
        "The a. A fox %d ran. ",
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("A. B c. ", '"a" b. ')),
    ],
)
def test_the_time_for_prose_grows_with_its_length_only(sentence: str) -> None:
    """The longest prose that is allowed; with the square of its length it took hours."""
    count = 100_000 // len(sentence)
    text = "".join(sentence.replace("%d", str(number)) for number in range(count))
    find_subjects(text)
    sentences = split_sentences(text, "en")
    assert merge_to_count(sentences, 50)
    assert merge_short(sentences, 3)
