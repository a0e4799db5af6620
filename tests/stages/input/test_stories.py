import csv
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.input.readers.rows import MAX_ROW_BYTES
from storyreel.stages.input.stories import read_stories
from storyreel.stages.output.records import ShotKind, Story

PROSE: dict[str, Any] = {"story_id": "fox", "text": "A fox ran."}


def write_jsonl(folder: Path, *rows: object) -> str:
    path = folder / "stories.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def read(url: str, **settings: Any) -> tuple[list[Story], list[Rejection]]:
    rows = list(read_stories(url, InputConfig(**settings)))
    return (
        [row for row in rows if isinstance(row, Story)],
        [row for row in rows if isinstance(row, Rejection)],
    )


ROWS: list[dict[str, Any]] = [
    {
        "story_id": "one",
        "panels": ["[Zo\u00eb] runs # \u96ea", {"text": "a tree", "shot": "cut", "beats": 3}],
        "characters": [{"name": "Zo\u00eb", "description": "a girl"}],
        "style": "comic",
        "seed": 7,
        "duration_s": 12.5,
    },
    {"story_id": "two", "text": "A fox ran. It slept.", "title": "Two", "source": {"page": 3}},
]


def write_parquet(path: Path) -> None:
    panels = [{"text": "[Zo\u00eb] runs # \u96ea"}, {"text": "a tree", "shot": "cut", "beats": 3}]
    rows = [{**ROWS[0], "panels": panels}, {**ROWS[1], "source": None}]
    names = {name: None for row in rows for name in row}
    pq.write_table(pa.Table.from_pylist([{**names, **row} for row in rows]), path)


def write_csv(path: Path) -> None:
    names = list({name: None for row in ROWS for name in row})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in ROWS:
            encoded = {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}
            writer.writerow(encoded)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "yaml", "documents.yml"])
def test_every_format_gives_the_same_stories(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"stories.{kind}"
    if kind == "jsonl":
        path.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    elif kind == "csv":
        write_csv(path)
    elif kind == "parquet":
        write_parquet(path)
    else:
        text = yaml.safe_dump(ROWS) if kind == "yaml" else yaml.safe_dump_all(ROWS)
        path.write_text(text)
    stories, rejections = read(str(path))
    assert not rejections
    one, two = stories
    assert [(p.text, p.shot, p.beats) for p in one.panels] == [
        ("[Zo\u00eb] runs # \u96ea", ShotKind.MOTION, None),
        ("a tree", ShotKind.CUT, 3),
    ]
    assert (one.characters[0].name, one.style, one.seed, one.duration_s) == (
        "Zo\u00eb", "comic", 7, 12.5,
    )  # fmt: skip
    assert (two.story_id, two.text, two.panels) == ("two", "A fox ran. It slept.", ())


def test_a_text_file_is_a_story_named_after_it(tmp_path: Path) -> None:
    (tmp_path / "the-fox.txt").write_text("A fox ran.")
    ((story,), _) = read(str(tmp_path))
    assert (story.story_id, story.text) == ("the-fox", "A fox ran.")


def test_a_folder_and_a_glob_give_the_known_files_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "README.md", "photo.jpg", "c.txt"):
        (tmp_path / name).write_text("A fox ran.")
    assert [story.story_id for story in read(str(tmp_path))[0]] == ["a", "b", "c"]
    assert [story.story_id for story in read(str(tmp_path / "[ab].*"))[0]] == ["a", "b"]


def test_any_file_system_can_be_read() -> None:
    with fsspec.open("memory://inputs/fox.txt", "w") as file:
        file.write("A fox ran.")
    assert read("memory://inputs/fox.txt")[0][0].story_id == "fox"


def test_the_forms_of_the_released_code_are_understood(tmp_path: Path) -> None:
    row = {
        "story_id": 12,
        "panels": "[Bob] runs\n[NC] a street # Rain",
        "characters": "[Bob] A man, wearing a suit # the hero\n[Ann] a girl",
    }
    ((story,), _) = read(write_jsonl(tmp_path, row))
    assert story.story_id == "12"
    assert [panel.text for panel in story.panels] == ["[Bob] runs", "[NC] a street # Rain"]
    assert [(c.name, c.description) for c in story.characters] == [
        ("Bob", "A man, wearing a suit"),
        ("Ann", "a girl"),
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"text": None}, "needs `text` .* or `panels`"),
        ({"text": "  "}, "text: is empty"),
        ({"panels": ["a"]}, "not both"),
        ({"text": None, "panels": []}, "panels: is empty"),
        ({"text": None, "panels": ["a", " "]}, r"panels\[1\]: ' ' has no words"),
        ({"text": None, "panels": ["[Bob] runs"]}, r"unknown character \[Bob\]; known are \[NC\]"),
        (
            {"text": None, "panels": [{"text": "a", "beats": 101}]},
            r"panels\[0\].beats: 101 beats: at most 100",
        ),
        ({"text": None, "panels": [{"text": "a", "shot": "pan"}]}, "'pan': .*'motion'.*'dissolve'"),
        (
            {"text": None, "panels": [{"text": "a", "txet": 1}]},
            r"panels\[0\].txet: unknown .*beats",
        ),
        ({"text": None, "panels": [{"text": "a # b", "caption": "c"}]}, "another one after #"),
        (
            {"text": None, "panels": [{"text": "a cat", "layout": {"Bob": [0, 0, 1, 1]}}]},
            r"panels\[0\]: layout: 'Bob' is not in the panel, which shows nobody",
        ),
        (
            {
                "text": None,
                "characters": ["[Bob] a man"],
                "panels": [{"text": "[Bob] runs", "layout": {"Bob": [0.5, 0, 0.5, 1]}}],
            },
            r"panels\[0\]: layout: 'Bob': \[0.5, 0.0, 0.5, 1.0\] is empty",
        ),
        (
            {"text": None, "panels": [{"text": "a", "layout": {"Bob": [0, 0, 512, 1]}}]},
            r"panels\[0\].layout.Bob.*512: must be less than or equal to 1",
        ),
        ({"text": None, "panels": [{"text": "a", "place": ""}]}, r"panels\[0\].place"),
        ({"story_id": "../fox"}, r"story_id: '../fox': must be 1 to 100"),
        ({"story_id": "a..b"}, "story_id: 'a..b'"),
        ({"story_id": "x" * 10_000}, "story_id: 'xxx.*must be 1 to 100"),
        ({"story_id": ""}, "story_id: ''"),
        ({"seed": -1}, "seed: -1: must be greater than or equal to 0"),
        ({"seed": True}, "seed: True: must be a number"),
        ({"seed": 2**64}, "seed"),
        ({"duration_s": 0}, "duration_s: 0: must be greater than 0"),
        ({"duration_s": 3601}, "duration_s: 3601: must be less than or equal to 3600"),
        ({"sed": 1}, "sed: unknown key; known are story_id, text, panels"),
        ({"text": 3}, "text: 3: must be a valid string"),
        ({"text": "\ud800"}, "text: .*surrogates"),
        ({"characters": [{"name": "A"}, {"name": "A"}]}, "'A' is defined twice"),
        ({"characters": [{"name": "NC"}]}, "'NC' is not allowed as a name"),
        ({"characters": "Bob, a man"}, r"\[Name\] description"),
    ],
)
def test_a_bad_row_is_told_by_file_row_and_field_and_the_others_go_on(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    bad = {"story_id": "bad", "text": "A cat.", **change}
    path = write_jsonl(tmp_path, PROSE, bad, {"story_id": "last", "text": "A dog."})
    stories, (rejection,) = read(path)
    assert [story.story_id for story in stories] == ["fox", "last"]
    assert rejection.message.startswith(f"{path} row 2: ")
    assert rejection.source_row == 2
    assert re.search(told, rejection.message), rejection.message
    assert len(rejection.message) < 400 + len(path)
    rejection.message.encode()


def test_a_second_story_of_the_same_id_is_refused_whatever_its_case(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, PROSE, {**PROSE, "story_id": "FOX"})
    (story,), (rejection,) = read(path)
    assert story.story_id == "fox"
    assert rejection.story_id == "FOX"
    assert "earlier row" in rejection.message


def test_a_rejected_row_does_not_use_up_its_id(tmp_path: Path) -> None:
    (story,), _ = read(write_jsonl(tmp_path, {"story_id": "fox"}, PROSE))
    assert story.source_row == 2


@pytest.mark.parametrize(
    "line",
    [b'{"story_id": "x"', b"[1, 2]", b'{"seed": NaN}', b"\xff\xfe", b"[" * 100_000, b'"fox"'],
)
def test_a_broken_line_is_only_that_row(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "stories.jsonl"
    path.write_bytes(json.dumps(PROSE).encode() + b"\n" + line + b'\n{"story_id":"z","text":"A."}')
    stories, (rejection,) = read(str(path))
    assert [story.story_id for story in stories] == ["fox", "z"]
    assert rejection.source_row == 2


def test_a_line_that_is_too_long_is_only_that_row(tmp_path: Path) -> None:
    path = tmp_path / "stories.jsonl"
    long = b'{"story_id": "' + b"x" * 2 * MAX_ROW_BYTES + b'"}\n'
    fox, cat = (json.dumps({**PROSE, "story_id": name}).encode() for name in ("fox", "cat"))
    path.write_bytes(long + b"\n" + fox + b"\n" + long + cat)
    stories, rejections = read(str(path))
    assert [(story.story_id, story.source_row) for story in stories] == [("fox", 3), ("cat", 5)]
    assert [rejection.source_row for rejection in rejections] == [1, 4]
    assert f"a row may have {MAX_ROW_BYTES} bytes" in rejections[0].message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "story_id,title,text\nfox,,A fox.\n{bad}\ncat,,A cat.\n"),
        ("a.jsonl", '{bad}\n{"story_id":"fox","text":"A."}\n{"story_id":"cat","text":"A."}'),
    ],
)
@pytest.mark.parametrize("bad", [b"caf\xe9,,A caf\xe9.", b"bar,Caf\xe9,A bar."])
def test_a_byte_that_is_not_utf_8_in_a_file_that_is_is_only_that_row(
    name: str, content: str, bad: bytes, tmp_path: Path
) -> None:
    content = content.replace("A cat.", "A café cat.").replace('"A."', '"A café."')
    (tmp_path / name).write_bytes(content.encode().replace(b"{bad}", bad))
    stories, (rejection,) = read(str(tmp_path / name))
    assert [story.story_id for story in stories] == ["fox", "cat"]
    assert "not UTF-8 text (byte 0xe9)" in rejection.message


def test_storage_that_fails_is_no_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A fox.")
    (tmp_path / "b.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(ValueError, match=r"b\.txt: cannot be read: No such file"):
        read(f"{tmp_path}/*.txt")


def test_a_server_that_goes_away_in_the_middle_of_a_file_is_no_bad_row() -> None:
    rows = [{"story_id": f"s{i}", "text": "A fox. " * 10_000} for i in range(300)]
    content = "\n".join(map(json.dumps, rows)).encode()
    with served_once(content) as url:
        stories = read_stories(f"{url}/stories.jsonl", InputConfig(private_addresses=True))
        assert isinstance(next(stories), Story)
        with pytest.raises(ValueError, match=r"jsonl: cannot be read: 503"):
            list(stories)


@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_a_web_server_that_only_this_machine_reaches_is_not_read(chain: str) -> None:
    """A submission could read a cloud's metadata service with the rights of the server."""
    with served_once(b'{"story_id": "fox", "text": "A fox."}') as url:
        with pytest.raises(ValueError, match=r"not a public one|must stand alone"):
            read(f"{chain}{url}/stories.jsonl")
        assert read(f"{url}/stories.jsonl", private_addresses=True)


@contextmanager
def served_once(content: bytes) -> Iterator[str]:
    """A server that gives parts of one file, until it was asked for the second part."""

    class Handler(BaseHTTPRequestHandler):
        parts = 0

        def do_HEAD(self) -> None:
            self._answer(200, b"", {"content-length": str(len(content))})

        def do_GET(self) -> None:
            if "range" not in self.headers:  # whether it is there, and is a folder
                self._answer(200, b"", {"content-length": "0"})
                return
            Handler.parts += 1
            if Handler.parts > 1:
                self._answer(503, b"", {"content-length": "0"})
                return
            first, last = map(int, self.headers["range"].removeprefix("bytes=").split("-"))
            part = content[first : last + 1]
            place = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
            self._answer(206, part, {"content-length": str(len(part)), "content-range": place})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"accept-ranges": "bytes", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not in the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_broken_csv_row_is_only_that_row(tmp_path: Path) -> None:
    path = tmp_path / "stories.csv"
    path.write_text("story_id,text\nfox,A fox.\nbad,A,B\ncat,A cat.\n")
    stories, (rejection,) = read(str(path))
    assert [story.story_id for story in stories] == ["fox", "cat"]
    assert "more cells" in rejection.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"no parquet"),
        ("a.txt", b"\xff\xfe"),
        ("a.yaml", b"a: [1"),
        ("a.jsonl", b"\xff\xfe"),
        ("a.csv", b"\xff\xfe"),
        ("a.yaml", b"[" * 100_000),
        ("a.jsonl", b""),
    ],
)
def test_an_unreadable_file_is_refused_at_the_door_if_it_is_all_there_is(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read_stories(str(tmp_path / name), InputConfig())


def test_an_unreadable_file_among_others_does_not_stop_them(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    (tmp_path / "b.txt").write_text("A fox.")
    (story,), (rejection,) = read(str(tmp_path))
    assert story.story_id == "b"
    assert rejection.source_row == 0
    assert "a.parquet" in rejection.message


@pytest.mark.parametrize("name", ["missing.jsonl", "missing", "*.jsonl", "."])
def test_nothing_to_read_is_refused_at_the_door(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.doc").write_text("none")
    with pytest.raises(ValueError, match="input "):
        read_stories(str(tmp_path / name), InputConfig())


def test_credentials_in_a_url_are_never_repeated() -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1") as caught:
        read_stories("http://ann:secret@127.0.0.1:9/stories.jsonl?token=secret", InputConfig())
    assert "secret" not in str(caught.value)


def test_stories_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "stories.jsonl"
    path.write_text(json.dumps(PROSE) + "\n" + "\n" * 1_000_000)
    stories = read_stories(str(path), InputConfig())
    assert isinstance(next(stories), Story)
