"""What is damaged is made again, also where what it was made from was let go."""

from pathlib import Path, PurePosixPath

import pytest

from storyreel.cluster.work import Work
from storyreel.flows.audit.repair import open_for_repair
from storyreel.flows.audit.verify import verify
from storyreel.flows.job.retention import remove_finished_intermediates
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import PACK
from tests.flows.inline import PANELS, lay_out, render_inline
from tests.records import replace_record

UNITS = "units/{stage}/00000-of-00001/{name}.done.json"


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """A finished job of two stories whose keyframes and clips were let go."""
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 2)
    remove_finished_intermediates(render_inline(output))
    assert output.names("keyframes") == output.names("clips") == []
    return output


@pytest.mark.parametrize(
    "place",
    [
        "films/s000.srt",
        UNITS.format(stage="films", name="s000"),
        UNITS.format(stage="motion", name="s000.0001"),
        UNITS.format(stage="keyframes", name="s000"),
        UNITS.format(stage="prompts", name="s000"),
    ],
)
def test_a_film_is_not_lost_because_its_pictures_were_let_go(place: str, output: Output) -> None:
    if place.endswith(".json"):
        replace_record(Path(output.url), place, "damaged")
        place = f"{PurePosixPath(place).parent}/{PACK}"
    else:
        output.publish(place, b"damaged")

    def misses_its_pictures(work: Work) -> bool:
        if work.unit.stage == "motion":
            return not all(output.exists(k.path) for k in (work.argument.first, work.argument.last))
        clips = output.names(f"clips/{work.unit.story_id}")
        return work.unit.stage == "films" and len(clips) < PANELS - 1

    assert open_for_repair(output) == (place,)
    render_inline(output, misses_its_pictures)
    audit = verify(output)
    assert (audit.num_films, audit.problems) == (2, [])
    assert open_for_repair(output) == ()
