"""A job is continued where its bytes stay the same, or on request."""

from pathlib import Path

from storyreel.flows.job.environments import Environments, read_environments
from storyreel.stages.hardware import environment_class
from storyreel.stages.output.storage import Output

HERE, THERE = "GPU A, Python 3.11.7, torch 2.9", "GPU B, Python 3.11.7, torch 2.9"


def test_a_run_on_other_hardware_is_refused_by_the_name_of_both(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    assert Environments(output, mixed=False).join("render", HERE) is None
    refusal = Environments(output, mixed=False).join("render", THERE)
    assert refusal is not None
    assert HERE in refusal
    assert THERE in refusal
    assert "execution.mixed_environments=true" in refusal
    assert read_environments(output) == {"render": (HERE,)}


def test_other_hardware_is_accepted_on_request_and_recorded(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    assert Environments(output, mixed=False).join("render", HERE) is None
    assert Environments(output, mixed=True).join("render", THERE) is None
    assert Environments(output, mixed=False).join("render", THERE) is None
    assert read_environments(output) == {"render": (HERE, THERE)}


def test_a_first_run_may_have_different_machines_and_pools_differ(tmp_path: Path) -> None:
    environments = Environments(Output(str(tmp_path)), mixed=False)
    joined = [environments.join(*one) for one in (("render", HERE), ("render", THERE))]
    assert joined == [None, None]
    again = Environments(Output(str(tmp_path)), mixed=False)
    assert again.join("assembly", "CPU") is None


def test_an_environment_names_the_hardware_and_the_libraries() -> None:
    for name in ("Python 3.", "torch ", "diffusers ", "transformers "):
        assert name in environment_class()
