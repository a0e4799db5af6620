"""What people ask of a running job reaches it whole, whoever asks, from wherever, at once."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import s3fs
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from storyreel.flows.commands.cli import app
from storyreel.flows.job.config import load_config
from storyreel.flows.job.control import (
    Approval,
    Cancel,
    ControlRecord,
    read_control,
    update_control,
)
from storyreel.flows.job.job import open_job
from storyreel.stages.output.storage import Output

WINDOW = "22:00-06:00 Europe/Berlin"


@pytest.fixture
def output(tmp_path: Path) -> Output:
    stories = tmp_path / "stories.jsonl"
    stories.write_text(json.dumps({"story_id": "fox", "text": "A fox walks."}))
    output = Output(str(tmp_path / "job"))
    open_job(output, str(stories), load_config("pocket"))
    return output


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Output]:
    """A job's place in a real object store on loopback."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("stories")
    output = Output("s3://stories/job")
    output.publish("job.json", b"{}")
    yield output
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_job_nobody_has_asked_anything_of_is_as_configured(output: Output) -> None:
    assert read_control(output) == ControlRecord()


def test_a_change_keeps_what_was_asked_before(output: Output) -> None:
    update_control(output, paused=True, limits={"render": 2})
    update_control(output, priority=7, limits={"assembly": 3})
    expected = ControlRecord(paused=True, priority=7, limits={"render": 2, "assembly": 3})
    assert read_control(output) == expected


@pytest.mark.parametrize("place", ["output", "bucket"])
def test_changes_at_once_all_hold(place: str, request: pytest.FixtureRequest) -> None:
    """Several people at several machines; a lost pause would cost a night's GPUs."""
    url = request.getfixturevalue(place).url
    changes = [
        {"paused": True},
        {"priority": 9},
        {"limits": {"render": 4}},
        {"limits": {"assembly": 2}},
        {"window": WINDOW},
        {"cancel": "drain"},
    ]
    with ThreadPoolExecutor(len(changes)) as people:
        done = [people.submit(update_control, Output(url), **change) for change in changes]
        for change in done:
            change.result()
    assert read_control(Output(url)) == ControlRecord(
        paused=True,
        priority=9,
        limits={"render": 4, "assembly": 2},
        window=WINDOW,
        cancel=Cancel.DRAIN,
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"priority": 10}, "priority: 10: must be less"),
        ({"limits": {"render": 0}}, "limits.render: 0: must be greater"),
        ({"limits": {"rendr": 1}}, "limits.rendr"),
        ({"window": "22-6"}, "must be HH:MM-HH:MM ZONE"),
        ({"cancel": "later"}, "cancel: 'later'"),
    ],
)
def test_what_is_not_allowed_is_named_and_changes_nothing(
    output: Output, change: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        update_control(output, **change)
    assert named in str(refusal.value)
    assert read_control(output) == ControlRecord()


def test_a_place_without_a_job_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}: holds no job"):
        update_control(Output(str(tmp_path)), paused=True)
    assert not list(tmp_path.iterdir())


def test_a_damaged_record_is_named(output: Output) -> None:
    output.publish("control/000001.json", b'{"paused": "perhaps"}')
    with pytest.raises(ValueError, match=r"control/000001\.json: paused: 'perhaps'"):
        read_control(output)


def test_the_commands_write_the_record_and_print_it(output: Output) -> None:
    for command, field, value in [
        (["pause"], "paused", True),
        (["cancel"], "cancel", "drain"),
        (["cancel", "--now"], "cancel", "now"),
        (["resume"], "cancel", "no"),
        (["set", "--priority", "8"], "priority", 8),
        (["set", "--limit", "render=2"], "limits", {"render": 2}),
        (["set", "--limit", "assembly=1"], "limits", {"render": 2, "assembly": 1}),
        (["set", "--window", "always"], "window", "always"),
    ]:
        told = json.loads(run(*command, output.url, "--json"))
        assert told[field] == value, command
        assert told == read_control(output).model_dump(mode="json")
    assert not read_control(output).paused


@pytest.mark.parametrize(
    ("arguments", "named"),
    [([], "nothing to change"), (["--limit", "render"], "must be POOL=N, such as render=2")],
)
def test_a_change_that_is_none_is_refused(output: Output, arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(app, ["set", output.url, *arguments])
    assert named in str(result.exception)


def test_only_a_job_with_a_sample_can_be_approved(output: Output) -> None:
    result = CliRunner().invoke(app, ["approve", output.url])
    assert "no job there has a sample" in str(result.exception)
    update_control(output, approval=Approval.WAITING)
    assert json.loads(run("approve", output.url, "--json"))["approval"] == "approved"
    assert json.loads(run("reject", output.url, "--json"))["approval"] == "rejected"


def test_status_of_a_job_that_was_never_run(output: Output) -> None:
    told = json.loads(run("status", output.url, "--json"))
    assert (told["phase"], told["holder"]) == ("stopped", None)
    assert [(s["stage"], s["done"], s["total"]) for s in told["stages"]][:2] == [
        ("prompts", 0, 1),
        ("keyframes", 0, 1),
    ]
    assert "prompts" in run("status", output.url)
