"""The command line explains itself."""

import urllib.request

import pytest
from typer.testing import CliRunner

import storyreel
from storyreel.flows.commands.cli import COMMANDS, app, main

NAMES = [command.__name__.rstrip("_") for command in COMMANDS]


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.stdout == f"storyreel {storyreel.__version__}\n"


def test_words_in_brackets_stay_in_help_texts() -> None:
    """Rich takes [server] for markup and prints nothing in its place."""
    assert "[server]" in CliRunner().invoke(app, ["serve", "--help"], terminal_width=200).stdout


@pytest.mark.parametrize("name", NAMES)
def test_the_summary_of_a_command_is_not_cut_in_a_terminal(name: str) -> None:
    helped = CliRunner().invoke(app, ["--help"], terminal_width=80).stdout
    (line,) = (line for line in helped.splitlines() if line.strip().startswith(f"{name} "))
    assert not line.endswith("...")


@pytest.mark.parametrize("stated", [{}, {"no_proxy": "example.org"}, {"NO_PROXY": "example.org"}])
def test_a_proxy_is_not_asked_for_servers_of_this_machine(
    stated: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole render behind a proxy that never answers is in test_surroundings."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, stated.get(name, ""))
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    monkeypatch.setattr("sys.argv", ["storyreel", "--version"])
    with pytest.raises(SystemExit):
        main()
    for host in ("127.0.0.1", "localhost"):
        assert urllib.request.proxy_bypass(host), host
    assert bool(urllib.request.proxy_bypass("example.org")) == bool(stated)
