"""Fuzz of everything that strangers can hand us: never a traceback, a hang, or a file outside.

`make test` tries a hundred inputs of each kind, `make test-all` 100,000 in all.
"""

import contextlib
import io
import json
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from storyreel.flows.audit.verify import verify
from storyreel.flows.job.config import load_config, make_config
from storyreel.flows.job.control import read_control
from storyreel.flows.job.generations import read_generations
from storyreel.flows.job.job import read_job
from storyreel.flows.job.lock import holder_of
from storyreel.flows.job.status import read_published
from storyreel.flows.plans.plan import read_plan
from storyreel.flows.plans.rates import read_rates
from storyreel.flows.server.server_config import ServerConfig
from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.names.markup import parse_markup
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.input.stories import read_stories
from storyreel.stages.input.story_rows import to_story, valid_id
from storyreel.stages.output.commits import (
    UnitId,
    commit_failure,
    read_attempts,
    read_commit,
)
from storyreel.stages.output.manifests import Shard, read_manifest, write_manifest
from storyreel.stages.output.records import Clip, Failure, Film, Story
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords
from storyreel.stages.pictures import decode_reference
from tests.stages.input.apart import read_apart

pytestmark = pytest.mark.timeout(3600)  # of all inputs of a kind; one has its own deadline

FUZZ = settings(deadline=20_000, suppress_health_check=list(HealthCheck), database=None)
"""An input that takes longer than 20 s counts as a hang; how many there are, the profile says."""

POCKET = load_config("pocket").model_dump(mode="json")

HOSTILE = st.sampled_from(
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "..",
        "file:///etc/passwd",
        "http://169.254.169.254/",
        "$(touch x)",
        "`id`",
        "\x00",
        "\x1b[2J",
        "[NC]",
        "[",
        "]]",
        "#",
        "\\#",
        "\ud800",
        "\u202e",
        "nan",
        "1e999",
        "-0",
        "9" * 5000,
        "x" * 70_000,
        "<script>",
        "%n%s",
        "NULL",
        "CON",
        "&a [*a,*a]",
        "!!python/object/apply:os.system [id]",
    ]
)
TEXT = st.one_of(HOSTILE, st.text(max_size=40))
VALUE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        TEXT,
        st.binary(max_size=8),
        st.dates(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)
PANEL = st.one_of(
    TEXT,
    st.fixed_dictionaries(
        {"text": TEXT}, optional={"shot": TEXT, "beats": VALUE, "caption": TEXT, "x": VALUE}
    ),
)
CHARACTER = st.one_of(
    TEXT,
    st.fixed_dictionaries({"name": TEXT}, optional={"description": TEXT, "reference_image": TEXT}),
)
ROW = st.one_of(
    VALUE,
    st.fixed_dictionaries(
        {},
        optional={
            "story_id": st.one_of(TEXT, st.from_regex(r"[a-z0-9._-]{1,8}", fullmatch=True), VALUE),
            "text": st.one_of(TEXT, VALUE),
            "panels": st.one_of(st.lists(PANEL, max_size=4), VALUE),
            "characters": st.one_of(st.lists(CHARACTER, max_size=3), VALUE),
            "seed": VALUE,
            "duration_s": VALUE,
            "style": TEXT,
            "title": VALUE,
        },
    ),
)


def plain(value: Any) -> Any:
    """What JSON can hold of a value."""
    return json.loads(json.dumps(value, default=str, skipkeys=True))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def only_value_errors(call: Callable[[], object]) -> None:
    """What a command shows as one line; anything else would be a traceback at the user."""
    try:
        call()
    except ValueError as error:
        assert str(error), "an error must say what is wrong"
        assert len(str(error)) < 5000


def read_all(path: Path) -> None:
    """Read a file with stories; whatever it gives must be safe to use as file names."""
    for row in read_stories(str(path), InputConfig()):
        if isinstance(row, Rejection):
            assert row.message
            assert len(row.message) < 5000
            assert not row.story_id or valid_id(row.story_id)
        else:
            assert valid_id(row.story_id) == row.story_id


def read_bytes_as(suffix: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"stories{suffix}"
        path.write_bytes(content)
        only_value_errors(lambda: read_all(path))
        assert files_in(Path(folder)) == {path.name}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".txt"])
def test_any_bytes_as_stories(suffix: str) -> None:
    @FUZZ
    @given(st.one_of(st.binary(max_size=300), TEXT.map(lambda t: t.encode("utf-8", "replace"))))
    def run(content: bytes) -> None:
        read_bytes_as(suffix, content)

    run()


@FUZZ
@given(st.lists(ROW, min_size=1, max_size=3))
def test_any_rows_as_jsonl(rows: list[Any]) -> None:
    lines = "\n".join(json.dumps(plain(row)) for row in rows)
    read_bytes_as(".jsonl", lines.encode())


@FUZZ
@given(st.lists(st.dictionaries(TEXT, TEXT, max_size=4), min_size=1, max_size=3))
def test_any_table_as_csv(rows: list[dict[str, str]]) -> None:
    lines = [",".join(row.keys()) + "\n" + ",".join(row.values()) for row in rows]
    read_bytes_as(".csv", "\n".join(lines).encode("utf-8", "replace"))


HUGE = st.sampled_from(
    [
        {"text": "A fox. " * 20_000},
        {"text": "1. a 2. b " * 9_000},
        {"text": '"a b. ' * 15_000},
        {"panels": ["[Ann] runs"] * 2_000, "characters": [{"name": "Ann"}]},
        {"panels": ["n1 n2 n3 " * 400] * 25, "characters": [{"name": f"n{i}"} for i in range(100)]},
        {"panels": ["a"], "characters": [{"name": f"n{i}"} for i in range(20_000)]},
        {"panels": [{"text": "a", "beats": 100}] * 200},
        {"panels": [{}] * 300_000},
        {"panels": "[" * 90_000},
        {"title": [[]] * 500_000},
        {f"k{i}": i for i in range(100_000)},
    ]
)
MEMORY_MIB = 512
SECONDS = 5.0
"""Computing time of a huge row; it takes a tenth of that, and minutes where time is quadratic."""


@settings(FUZZ, max_examples=max(20, FUZZ.max_examples // 10))
@given(HUGE, ROW)
def test_a_huge_row_takes_seconds_and_half_a_gigabyte_at_most(
    huge: dict[str, Any], row: Any
) -> None:
    row = {"story_id": "huge", **(row if isinstance(row, dict) else {}), **huge}
    before = resource.getrusage(resource.RUSAGE_SELF)
    read_bytes_as(".jsonl", json.dumps(plain(row)).encode())
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < SECONDS
    assert (after.ru_maxrss - before.ru_maxrss) >> 10 < MEMORY_MIB


@pytest.mark.parametrize("suffix", [".yaml", ".parquet"])
def test_files_that_a_process_of_its_own_parses_take_half_a_gigabyte_at_most(suffix: str) -> None:
    """Many files in one folder, as one process parses them all."""

    @settings(FUZZ, max_examples=max(2, FUZZ.max_examples // 50))
    @given(st.lists(st.one_of(st.binary(max_size=300), ROW.map(as_file(suffix))), min_size=30))
    def run(contents: list[bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for number, content in enumerate(contents):
                (Path(folder) / f"{number:04d}{suffix}").write_bytes(content)
            only_value_errors(lambda: read_all(Path(folder)))
            _, mib = read_apart(Path(folder))
        assert mib < 2 * MEMORY_MIB

    run()


def as_file(suffix: str) -> Callable[[Any], bytes]:
    """Writes a row in a format; empty if the format cannot hold it."""
    return as_yaml if suffix == ".yaml" else as_parquet


def as_yaml(row: Any) -> bytes:
    return yaml.safe_dump([plain(row)]).encode()


def as_parquet(row: Any) -> bytes:
    try:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([row]), buffer)
    except (pa.ArrowException, AttributeError, TypeError, ValueError, OverflowError):
        return b""  # Parquet cannot hold it
    return buffer.getvalue()


@FUZZ
@given(st.data())
def test_a_story_that_is_accepted_survives_its_manifest(data: st.DataObject) -> None:
    row = data.draw(ROW)
    if not isinstance(row, dict):
        return
    try:
        story = to_story(row, "stories.jsonl", 1, InputConfig())
    except ValueError:
        return
    with tempfile.TemporaryDirectory() as folder:
        output = Output(folder)
        write_manifest(output, "manifests/stories/s.parquet", Story, [story], fingerprint="")
        assert read_manifest(output, "manifests/stories/s.parquet", Story) == [story]


@FUZZ
@given(TEXT, st.lists(TEXT.map(lambda name: name[:100]), max_size=100))
def test_any_markup(text: str, names: list[str]) -> None:
    only_value_errors(lambda: parse_markup(text, names))


@FUZZ
@given(TEXT)
def test_no_path_leaves_an_output(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Output(f"{folder}/job")
        with contextlib.suppress(ValueError, OSError):  # too long: the system's own refusal
            output.publish(f"films/{path}", b"x")
        outside = [name for name in files_in(Path(folder)) if not f"{name}/".startswith("job/")]
        assert outside == []


@FUZZ
@given(TEXT, st.sets(st.sampled_from(["/srv/films", "s3://films/jobs"]), min_size=1))
def test_what_is_allowed_is_below_a_root(path: str, roots: set[str]) -> None:
    server = ServerConfig(outputs=tuple(roots))
    for url in (path, f"/srv/films/{path}", f"s3://films/jobs/{path}"):
        try:
            allowed = server.check_output(url)
        except (ValueError, OSError):
            continue
        resolved = allowed if allowed.startswith("s3://") else str(Path(allowed).resolve())
        assert any(resolved.startswith(f"{root}/") for root in roots)


def picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (9, 7), (1, 2, 3)).save(content, "PNG")
    return content.getvalue()


@FUZZ
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=40).map(lambda b: picture()[:20] + b)))
def test_any_bytes_as_a_picture(content: bytes) -> None:
    only_value_errors(lambda: decode_reference(content))


@FUZZ
@given(st.integers(0, 80), st.integers(0, 255))
def test_a_picture_with_any_byte_changed(position: int, byte: int) -> None:
    content = bytearray(picture())
    content[position % len(content)] = byte
    only_value_errors(lambda: decode_reference(bytes(content)))


@FUZZ
@given(st.dictionaries(st.sampled_from(["keyframes", "films", "pools", "x"]), VALUE, max_size=3))
def test_any_configuration(values: dict[str, Any]) -> None:
    only_value_errors(lambda: make_config("config fuzz", POCKET | values))


@FUZZ
@given(TEXT, TEXT)
def test_any_setting(key: str, value: str) -> None:
    only_value_errors(lambda: make_config("config fuzz", POCKET, [f"{key}={value}", key]))


READERS: dict[str, Callable[[Output], object]] = {
    "job.json": read_job,
    "generations.json": read_generations,
    "plan.json": read_plan,
    "rates.json": read_rates,
    "status.json": read_published,
    "lock/00000001.json": holder_of,
    "control/000001.json": read_control,
    "units/films/00000-of-00001/fox.done.json": lambda output: read_commit(output, UNIT, Film),
    "units/films/00000-of-00001/fox.attempts.json": lambda output: read_attempts(output, UNIT, 0),
    "units/films/00000-of-00001/fox.attempt-0001.json": (
        lambda output: read_attempts(output, UNIT, 1)
    ),
    "units/films/00000-of-00001/fox.failed.json": (
        lambda output: UnitRecords.find(output, "films", SHARD).failure("fox")
    ),
    "units/films/00000-of-00001/packed.parquet": (
        lambda output: UnitRecords.find(output, "films", SHARD).commit("fox", Film)
    ),
    "manifests/clips/00000-of-00001.parquet": lambda output: read_manifest(
        output, "manifests/clips/00000-of-00001.parquet", Clip
    ),
}
SHARD = Shard(index=0, count=1)
UNIT = UnitId(stage="films", shard=SHARD, story_id="fox")


@pytest.mark.parametrize("path", READERS)
def test_any_content_of_a_file_that_others_made(path: str) -> None:
    keys = [
        "records",
        "attempts",
        "worker",
        "generations",
        "forgiven",
        "fingerprint",
        "num_stories",
        "shard_size",
        "holder",
        "process",
        "paused",
        "stages",
        "hardware",
        "quantiles_s",
    ]
    shaped = st.dictionaries(st.sampled_from(keys), VALUE).map(plain).map(json.dumps)
    contents = st.one_of(
        st.binary(max_size=100),
        st.integers(1, 100_000).map(lambda depth: b"[" * depth),
        shaped.map(str.encode),
        VALUE.map(plain).map(json.dumps).map(str.encode),
    )

    @FUZZ
    @given(contents)
    def run(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            only_value_errors(lambda: READERS[path](Output(folder)))

    run()


@FUZZ
@given(TEXT, TEXT)
def test_a_failure_of_others_never_names_a_place_outside(story_id: str, path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Output(folder)
        failure = Failure(
            story_id=story_id,
            stage="films",
            unit_id=path,
            error_class="",
            message=path,
            attempts=1,
            worker="",
            source_file="",
            source_row=0,
        )
        try:
            commit_failure(output, UNIT, failure)
            read = UnitRecords.find(output, "films", SHARD).failure("fox")
        except ValueError:
            return
        assert not read.story_id or valid_id(read.story_id)


@FUZZ
@given(
    st.dictionaries(st.sampled_from(["num_stories", "shard_size", "sample_size"]), st.integers())
)
def test_an_audit_of_a_job_that_others_made_ends(counts: dict[str, int]) -> None:
    """Counts that are absurd must not make an audit run for ever."""
    description = {
        "fingerprint": "0",
        "num_stories": 2,
        "num_rejected": 0,
        "shard_size": 1,
        "sample_size": 0,
        "rendering": {},
        "operation": {},
        **counts,
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Output(folder)
        output.publish("job.json", json.dumps(description).encode())
        only_value_errors(lambda: verify(output))
