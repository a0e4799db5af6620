"""What is installed from a wheel, far from the repository, is complete."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

USE = """
from pathlib import Path
import storyreel.stages
from storyreel.flows.job.config import load_config
from storyreel.stages.models.config import resolve

model = Path(resolve(load_config("pocket", profile="draft").keyframes.model.path))
assert model.is_relative_to(Path(stages.__file__).parents[1]), model
print(*sorted(path.name for path in model.iterdir() if path.is_dir()))
"""


def test_an_installed_wheel_brings_its_configs_and_the_pocket_model(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True)
    used = subprocess.run(
        [sys.executable, "-c", USE],
        env={"PYTHONPATH": str(site), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"unet", "vae", "motion_adapter", "motion_predictor"} <= set(used.stdout.split())
