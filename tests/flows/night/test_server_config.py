"""The `[server]` section at the door: what a team must not get wrong unnoticed."""

from pathlib import Path

import pytest

from storyreel.flows.server.server_config import ServerConfig, load_server_config
from storyreel.flows.views.artifacts import escape_markdown


def write(folder: Path, text: str) -> Path:
    path = folder / "server.toml"
    path.write_text(f"[server]\n{text}")
    return path


def secret(folder: Path, line: str = "team:secret", mode: int = 0o600) -> Path:
    path = folder / "auth"
    path.write_text(line)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "render.example.org"])  # noqa: S104
def test_listening_beyond_loopback_is_refused_without_a_password(tmp_path: Path, host: str) -> None:
    path = write(tmp_path, f'host = "{host}"\npublic_host = "render.example.org"')
    with pytest.raises(ValueError, match=r"server\.toml.*needs auth_file"):
        load_server_config(path)
    secret(tmp_path)
    path.write_text(f'{path.read_text()}\nauth_file = "auth"')
    assert load_server_config(path).auth_string() == "team:secret"


@pytest.mark.parametrize(
    ("line", "mode", "problem"),
    [
        ("team:secret", 0o644, "readable by others"),
        ("teamsecret", 0o600, "one line user:password"),
        ("team:", 0o600, "one line user:password"),
        ("a:b\nc:d", 0o600, "one line user:password"),
    ],
)
def test_a_bad_password_file_is_refused(tmp_path: Path, line: str, mode: int, problem: str) -> None:
    config = ServerConfig(auth_file=secret(tmp_path, line, mode))
    with pytest.raises(ValueError, match=problem):
        config.auth_string()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prot = 1", "prot"),
        ("port = 0", "port"),
        ("port = 4210", "gallery_port must differ"),
        ('database_url = "mysql://x"', "database_url"),
        ('outputs = ["a/films", "b/films"]', "last parts must differ"),
        ('host = "0.0.0.0"\nauth_file = "auth"', "needs public_host"),
        ("[films]\nfps = 3", "contains other sections"),
    ],
)
def test_a_bad_value_is_named_with_its_file(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=rf"server\.toml: .*{problem}"):
        load_server_config(write(tmp_path, text))


def test_a_job_may_write_below_the_outputs_and_nowhere_else(tmp_path: Path) -> None:
    config = load_server_config(write(tmp_path, 'outputs = ["films", "s3://bucket/jobs"]'))
    assert config.check_output(str(tmp_path / "films" / "a")) == str(tmp_path / "films" / "a")
    assert config.check_output("s3://bucket/jobs/a/") == "s3://bucket/jobs/a"
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "link").symlink_to(tmp_path)
    refused = ["/etc/x", "films", "s3://bucket/other", "s3://bucket/jobs/../x", "s3://bucket/jobsx"]
    refused += [str(tmp_path / "films"), str(tmp_path / "films/../x"), str(tmp_path / "films/link")]
    for url in refused:
        with pytest.raises(ValueError, match=r"must (be a folder below|not contain)"):
            config.check_output(url)


def test_a_secret_in_an_output_is_refused_and_not_repeated() -> None:
    config = ServerConfig(outputs=("s3://bucket/jobs",))
    with pytest.raises(ValueError, match="output") as caught:
        config.check_output("s3://key:hunter2@bucket/jobs/a")
    assert "hunter2" not in str(caught.value)


def test_markdown_of_a_story_stays_text() -> None:
    text = "<b>x</b> [click](javascript:alert(1)) ![i](http://x) | a\n# h `c` *e* &lt;"
    escaped = escape_markdown(text)
    assert "<" not in escaped
    assert "\n" not in escaped
    for sign in "[]()!|#`*":
        assert sign not in escaped.replace(f"\\{sign}", "")
