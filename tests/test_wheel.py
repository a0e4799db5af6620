"""What is installed from a wheel, far from the repository, is complete and takes one name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

TRAP = "raise ImportError('a file of the user was imported')\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed, without what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True)
    return site


def test_a_wheel_installs_one_name(site: Path) -> None:
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"storyreel", "bin"}


def test_a_wheel_brings_its_types_its_configs_and_the_pocket_model(site: Path) -> None:
    package = site / "storyreel"
    assert (package / "py.typed").is_file()
    assert (package / "configs/pocket.toml").is_file()
    assert (package / "flows/views/gallery.html").is_file()
    parts = {path.name for path in (package / "models/pocket").iterdir() if path.is_dir()}
    assert {"unet", "vae", "motion_adapter", "motion_predictor"} <= parts


@pytest.mark.slow
def test_it_renders_in_a_folder_whose_files_are_named_as_its_rooms(
    site: Path, tmp_path: Path
) -> None:
    """A folder `flows` beside Prefect is what most users have."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "configs").mkdir()
    for name in ("flows/__init__.py", "stages.py", "cluster.py", "training.py"):
        (tmp_path / name).write_text(TRAP)
    story = {"story_id": "fox", "text": "A fox walks in the park. The fox runs in the park."}
    (tmp_path / "stories.jsonl").write_text(json.dumps(story))
    settings = ["keyframes.num_inference_steps=1", "motion.num_inference_steps=1"]
    settings += ["films.width=128", "films.height=128"]
    options = [word for setting in settings for word in ("--set", setting)]
    rendered = subprocess.run(
        [site / "bin" / "storyreel", "render", "stories.jsonl", "--output", "out", *options],
        env={
            "PYTHONPATH": str(site),
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert rendered.returncode == 0, rendered.stderr
    assert (tmp_path / "out/films/fox.mp4").is_file()


def test_a_new_module_of_the_checkout_is_importable_at_once() -> None:
    """Nobody should have to install again after adding a file."""
    module = ROOT / "stages" / "brand_new_module.py"
    module.write_text('"""A module that was just added."""\n')
    try:
        code = "import storyreel.stages.brand_new_module as new; print(new.__doc__)"
        used = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert used.stdout.strip() == "A module that was just added."
    finally:
        module.unlink()
