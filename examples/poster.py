"""A fifth stage: a poster for each film. One class, one record, and one row of the table.

    python -m examples.poster examples/stories.jsonl output/posters --limit 1

The row is all that the rest of the program needs: posters are rendered by the assembly pool, shown
in the Prefect UI, counted by `find_status`, planned, audited by `verify` and repaired.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import av
from PIL import Image, ImageDraw, ImageOps

from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import open_job, read_job
from storyreel.flows.job.stage_table import FilesSpec, ManifestSpec, ShardContext, StageSpec, Unit
from storyreel.flows.job.stages import STAGES
from storyreel.flows.run.render import run_render
from storyreel.stages.output.records import File, Film
from storyreel.stages.output.storage import Output

BORDER = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Poster:
    """A PNG that advertises a film."""

    story_id: str
    path: str
    size: int
    sha256: str


class PosterStage:
    """Frames the middle picture of a film, and writes the story's id below it."""

    def __init__(self, *, output_url: str) -> None:
        self._output = Output(output_url)

    def __call__(self, film: Film) -> tuple[Poster]:
        """Publish the poster of a film."""
        poster = ImageOps.expand(self._middle_frame(film), border=BORDER, fill="black")
        ImageDraw.Draw(poster).text((BORDER, poster.height - 18), film.story_id, fill="white")
        png = io.BytesIO()
        poster.save(png, "PNG")
        file = self._output.publish(f"posters/{film.story_id}.png", png.getvalue())
        return (Poster(story_id=film.story_id, path=file.path, size=file.size, sha256=file.sha256),)

    def _middle_frame(self, film: Film) -> Image.Image:
        file = File(path=film.path, size=film.size, sha256=film.sha256)
        with av.open(io.BytesIO(self._output.read_checked(file)), "r") as video:
            frame: Any = next(islice(video.decode(video=0), film.num_frames // 2, None))
            picture: Image.Image = frame.to_image()
        return picture


def poster_units(shard: ShardContext) -> Iterator[Unit]:
    """One unit for each film of the shard."""
    for film in shard.rows("films"):
        yield Unit(story_id=film.story_id, argument=film)


POSTERS = StageSpec(
    name="posters",
    pool="assembly",
    factory=lambda url, _config: partial(PosterStage, output_url=url),
    units=poster_units,
    record=Poster,
    manifests=(ManifestSpec(table="posters", record=Poster),),
    files=FilesSpec(folder="posters", suffixes=("png",)),
    made_from=("films",),
)
WITH_POSTERS = STAGES.with_stage(POSTERS)


def main() -> None:
    """Render the stories of an input to films and posters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--config", default="pocket")
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()
    config, output = load_config(asked.config), Output(asked.output)
    open_job(output, asked.input, config, limit=asked.limit)
    run_render(read_job(output, WITH_POSTERS), config)


if __name__ == "__main__":
    # Workers import the record and the stage, so they must not belong to the script itself.
    from examples import poster  # noqa: PLW0406, as a module of its own

    poster.main()
