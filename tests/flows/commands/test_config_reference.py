"""The reference of all keys says what the classes say."""

import re
from pathlib import Path

from storyreel.flows.commands.config_reference import reference
from storyreel.flows.job.config import load_config

WRITTEN = Path("docs/configuration.md")


def test_the_written_reference_is_up_to_date() -> None:
    assert WRITTEN.read_text(encoding="utf-8") == reference(), (
        "run: python -m storyreel.flows.commands.config_reference > docs/configuration.md"
    )


def test_a_key_is_told_with_its_values_its_default_and_its_meaning() -> None:
    rows = {line.split(" | ")[0]: line for line in reference().splitlines() if " | " in line}
    assert rows["| `fps`"] == (
        "| `fps` | whole number, at least 8, at most 60 | `8` |"
        " Frames per second; every frame is a rendered one, unless `motion.fps` is lower. |"
    )
    assert rows["| `coverage`"].startswith('| `coverage` | `window`, `star`, `none` | `"window"` |')
    assert "| required |" in rows["| `assembly`"]
    assert "`[keyframes.controlnet]` | none |" in rows["| `controlnet`"]


def test_the_example_of_a_checkpoint_is_a_valid_change_of_a_bundled_file(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", reference(), re.DOTALL)
    changes = tmp_path / "mine.toml"
    changes.write_text(example)
    assert load_config("sd15", profile=str(changes)).keyframes.model.path == "/models/my-sd15"
