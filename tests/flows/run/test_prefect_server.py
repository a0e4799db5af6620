"""The Prefect server that a command starts for itself."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from storyreel.flows.run.prefect_server import prefect_api
from tests.flows.conftest import ROOT

COMMAND = """
from prefect.client.orchestration import get_client
from storyreel.flows.run.prefect_server import prefect_api

with prefect_api(), get_client(sync_client=True) as client:
    print(len(client.read_flow_runs()))
"""


@pytest.mark.slow
def test_three_commands_at_once_in_a_fresh_folder_all_get_their_server(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment.pop("PREFECT_API_URL", None)
    commands = [
        subprocess.Popen(
            [sys.executable, "-c", COMMAND],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    ended = [(*command.communicate(timeout=300), command.returncode) for command in commands]
    assert [(said, code) for said, _, code in ended] == [("0\n", 0)] * 3, ended


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings: dict[Any, Any] = {PREFECT_HOME: tmp_path / "file" / "home", PREFECT_API_URL: None}
    with (
        temporary_settings(settings),
        pytest.raises(ConnectionError, match="set PREFECT_HOME to a folder"),
        prefect_api(),
    ):
        pass
