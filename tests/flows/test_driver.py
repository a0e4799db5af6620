"""The driver sends stages to workers; it has no need of what they compute with."""

import subprocess
import sys

from tests.flows.conftest import ROOT


def test_the_flow_is_started_without_loading_torch() -> None:
    """A driver with torch takes seconds and hundreds of megabytes more, for every job."""
    code = (
        "import storyreel.flows.run.render, sys;"
        "print({'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
