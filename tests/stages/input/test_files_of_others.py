"""Files as spreadsheets, editors and other programs write them; `files/` holds some."""

import gzip
import json
from pathlib import Path

import pytest

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.input.refusals import Refusals
from storyreel.stages.input.stories import read_stories
from storyreel.stages.output.records import Story

FILES = Path(__file__).parent / "files"


def read(path: Path) -> tuple[list[Story], list[Rejection]]:
    rows = list(read_stories(str(path), InputConfig()))
    return (
        [row for row in rows if isinstance(row, Story)],
        [row for row in rows if isinstance(row, Rejection)],
    )


def accepted(path: Path) -> list[Story]:
    stories, rejections = read(path)
    assert not rejections
    return stories


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "excel-semicolon.csv",
            [("fox-1", "A fox ran. The fox slept."), ("fox-2", "Ann walked; then she sat.")],
        ),
        ("excel-trailing.csv", [("a1", "Ann ran home."), ("a2", "Ben sat.")]),
        ("pandas-index.csv", [("a1", "Ann ran home."), ("a2", "Ben sat down.")]),
        ("pandas.parquet", [("a1", "Ann ran home."), ("a2", "Ben sat.")]),
        ("nan.parquet", [("a1", "Ann ran.")]),
        ("tabs.tsv", [("a1", "Ann ran home.")]),
    ],
)
def test_tables_of_spreadsheets_and_pandas_are_read(name: str, told: list[tuple[str, str]]) -> None:
    assert [(story.story_id, story.text) for story in accepted(FILES / name)] == told


def test_a_missing_number_of_pandas_is_a_field_left_out() -> None:
    (story,) = accepted(FILES / "nan.parquet")
    assert (story.duration_s, story.seed) == (None, 3)


def test_lists_in_parquet_are_panels_and_characters() -> None:
    first, second = accepted(FILES / "lists.parquet")
    assert [panel.text for panel in first.panels] == ["[Ann] runs", "[Ann] sits"]
    assert (first.characters[0].name, second.characters) == ("Ann", ())


def test_the_ids_of_yaml_are_as_they_are_written() -> None:
    stories, (rejection,) = read(FILES / "octal.yaml")
    assert [story.story_id for story in stories] == [
        *(f"{number:03}" for number in range(1, 13)),
        "8",
    ]
    assert "story_id: '12:30': must be" in rejection.message  # no file may have this name


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".txt", ".yaml"])
def test_the_encoding_of_a_file_is_found(encoding: str, suffix: str, tmp_path: Path) -> None:
    text = "Der Fuchs läuft über die Brücke. Er hört Café-Musik \u2013 schön!"
    row = {"story_id": "fuchs", "text": text}
    content = {
        ".csv": f"story_id,text\nfuchs,{text}\n",
        ".txt": text,
        ".yaml": f'- story_id: fuchs\n  text: "{text}"\n',
    }.get(suffix, json.dumps(row, ensure_ascii=False))
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / f"fuchs{suffix}").write_bytes(mark + content.encode(encoding))
    (story,) = accepted(tmp_path / f"fuchs{suffix}")
    assert (story.story_id, story.text) == ("fuchs", text)


@pytest.mark.parametrize("header", ["Story_ID,TEXT", " story_id , Text ", "Story ID,text"])
def test_the_case_and_the_blanks_of_a_header_do_not_matter(header: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"sep=,\n{header}\nfox,A fox ran.\n")
    assert accepted(tmp_path / "a.csv")[0].text == "A fox ran."


def test_a_cell_without_a_column_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("story_id,text,\nfox,A fox ran.,and more\ncat,A cat.,\n")
    (story,), (rejection,) = read(tmp_path / "a.csv")
    assert story.story_id == "cat"
    assert "'and more': its column has no name in the header" in rejection.message


ROW = {"story_id": "fox", "text": "A fox ran."}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ndjson", json.dumps(ROW)),
        ("a.json", json.dumps(ROW, indent=4)),
        ("a.json", json.dumps([ROW], indent=1)),
        ("a.json", json.dumps({"stories": [ROW]})),
        ("a.json", json.dumps(ROW) + "\n" + json.dumps({**ROW, "story_id": "cat"})),
        ("a.md", json.dumps(ROW)),
        ("a.tsv", json.dumps(ROW)),
    ],
)
def test_json_is_one_story_a_list_or_lines_whatever_the_suffix(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    assert accepted(tmp_path / name)[0].text == "A fox ran."


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "fox.txt.gz"])
def test_packed_files_are_read(name: str, tmp_path: Path) -> None:
    content = ROW["text"] if ".txt" in name else json.dumps(ROW)
    (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    (story,) = accepted(tmp_path / name)
    assert (story.story_id, story.text) == ("fox", "A fox ran.")


def test_a_packed_file_that_is_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    (tmp_path / "b.txt").write_text("A fox ran.")
    stories, rejections = read(tmp_path)
    assert [story.story_id for story in stories] == ["b"]
    assert all("a.jsonl.gz" in rejection.message for rejection in rejections)


def test_what_a_folder_has_besides_stories_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.txt", "README.md", "photo.jpg", "more/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("A fox ran.")
    assert [story.story_id for story in accepted(tmp_path)] == ["a"]
    (record,) = caplog.records
    assert "not read: 'README.md', 'more/', 'photo.jpg'" in record.getMessage()


@pytest.mark.parametrize(
    ("name", "story_id"),
    [
        ("The Fox and the Grapes.txt", "The-Fox-and-the-Grapes"),
        ("chapter_01.txt", "chapter_01"),
        ("müller.txt", "muller-2dbd21"),
        ("第一章.txt", "story-9134b0"),
        ("...md", "story-5ec1f7"),
    ],
)
def test_the_name_of_a_file_becomes_a_safe_id(name: str, story_id: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("A fox ran.")
    assert accepted(tmp_path)[0].story_id == story_id


def test_markdown_is_read_as_its_words() -> None:
    (story,) = accepted(FILES / "markdown.txt")
    assert story.text is not None
    assert story.text.split("\n\n") == [
        "A young fox lived by a slow river. The fox ran.",
        "The fox swam.",
        "The fox slept.",
        '"I am tired," said the fox.',
        "The fox saw the moon.",
    ]


def test_subtitles_are_read_as_their_words() -> None:
    (story,) = accepted(FILES / "subs.txt")
    assert story.text is not None
    assert story.text.split("\n\n") == [
        "The miller walks to the river.",
        "The geese are swimming there.",
        '"Good morning!" "Good morning, miller."',
    ]


def test_a_screenplay_is_read_as_pictures_with_who_speaks_and_captions() -> None:
    (story,) = accepted(FILES / "screenplay.txt")
    assert [(panel.text, panel.caption) for panel in story.panels] == [
        ("[Ann] sweeps the floor, mill, day", "Ann, a girl in a red coat, sweeps the floor."),
        ("[Ann] speaks, mill, day", "Ann: Who is there?"),
        ("[Ann] speaks, mill, day", "Ben: Only me."),
        ("[Ann] and [Ben] walk along the water, river, night", "Ann and Ben walk along the water."),
    ]
    assert [(c.name, c.description) for c in story.characters] == [
        ("Ann", "a girl in a red coat"),
        ("Ben", ""),
    ]


def test_brackets_in_prose_are_prose(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("He ran [laughs]. The end [1].")
    assert accepted(tmp_path)[0].text == "He ran [laughs]. The end [1]."


def test_equal_refusals_are_one_line() -> None:
    def refused(row: int, reason: str) -> Rejection:
        message = f"a.csv row {row}: {reason}"
        return Rejection(source_file="a.csv", source_row=row, story_id="", message=message)

    rejections = [refused(row, "text: is empty") for row in range(1, 69)]
    assert list(Refusals([*rejections, refused(70, "seed: -1")]).lines()) == [
        "a.csv rows 1, 2, 3, 4, 5 and 63 more: text: is empty",
        "a.csv row 70: seed: -1",
    ]
