"""What keeps a render from working is found before the night, with what to do about it."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from storyreel.flows.commands.doctor import Finding, Verdict, show
from storyreel.stages.models.config import PACKAGE_ROOT
from tests.flows.conftest import ROOT, Command

DEAD = "127.0.0.1:9"


def examine(command: Command, *options: str) -> tuple[int, dict[str, Any]]:
    done = command.run("doctor", "--config", str(command.config), "--json", *options)
    findings = {finding["check"]: finding for finding in json.loads(done.stdout or "[]")}
    assert findings, done.stderr
    return done.returncode, findings


def test_a_healthy_machine_passes_and_says_where_it_would_render(
    command: Command, tmp_path: Path
) -> None:
    code, findings = examine(command, "--output", str(tmp_path / "job"))
    assert code == 0, findings
    assert not any(finding["verdict"] == Verdict.FAIL for finding in findings.values())
    assert {"packages", "ray", "ray token", "pool render", "output", "prefect"} <= set(findings)
    assert "1 node" in findings["ray"]["message"]


def test_everything_that_is_wrong_is_found_in_one_run_with_what_to_do(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(PACKAGE_ROOT / "models" / "pocket" / "vae", damaged)
    weights = next(damaged.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_API_URL", f"http://{DEAD}/api")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    settings = [
        f"cluster.address={DEAD}",
        f"keyframes.model.path={damaged}",
        "motion.model.path=nobody/nothing",
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    code, findings = examine(command, *options, "--output", str(tmp_path / "file" / "job"))
    failed = {check for check, found in findings.items() if found["verdict"] == Verdict.FAIL}
    assert code == 1
    assert failed == {"ray", "output", "prefect", f"model {damaged}", "model nobody/nothing"}
    assert all(findings[check]["advice"] for check in failed)
    assert "hf download nobody/nothing" in findings["model nobody/nothing"]["advice"]
    assert DEAD in findings["ray"]["message"]


def test_a_pool_that_finds_no_place_is_found(command: Command) -> None:
    code, findings = examine(command, "--set", "pools.render.num_gpus=8")
    assert code == 1
    assert "'GPU': 8" in findings["pool render"]["message"]


def test_the_report_for_people_names_each_check_and_what_to_do() -> None:
    console = Console(file=io.StringIO(), width=100)
    found = "no [bold] GPU"
    finding = Finding(check="gpus", verdict=Verdict.FAIL, message=found, advice="buy one")
    show([finding], console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(part in text for part in ("gpus", "fail", found, "-> buy one"))


def test_a_checkout_that_is_not_installed_knows_what_it_needs() -> None:
    """PYTHONPATH is enough to run from a checkout; there is no metadata then."""
    code = (
        "from importlib import metadata\n"
        "from storyreel.flows.commands import doctor\n"
        "def missing(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.requires = missing\n"
        "print(*doctor._requirements(), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert any(line.startswith("ray[default]") for line in done.stdout.splitlines())
