"""StoryDiffusion (arXiv 2405.01434) as a distributed batch-rendering pipeline.

The names in `__all__` are the public interface for notebooks and scripts:

- `Renderer` renders single stories in this process, without Ray, Prefect or a job;
- `open_job` opens a rendered job: status, films, manifests as `pyarrow.Table`, audit;
- `submit` queues a job at a running `storyreel serve`;
- `StoryreelError` is the root of all exceptions (the tree is in `storyreel.stages.errors`).

Importing the package is cheap: torch, diffusers, Ray and Prefect are imported on first use.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

__all__ = [
    "InputError",
    "LockedError",
    "OpenedJob",
    "PoolEndedError",
    "RenderedFilm",
    "Renderer",
    "StorageError",
    "Story",
    "StoryreelError",
    "make_story",
    "open_job",
    "submit",
]

if TYPE_CHECKING:
    from storyreel.cluster.errors import PoolEndedError
    from storyreel.jobs import OpenedJob, open_job, submit
    from storyreel.rendering import RenderedFilm, Renderer, make_story
    from storyreel.stages.errors import InputError, LockedError, StorageError, StoryreelError
    from storyreel.stages.output.records import Story

_HOMES = {
    "InputError": "storyreel.stages.errors",
    "LockedError": "storyreel.stages.errors",
    "OpenedJob": "storyreel.jobs",
    "PoolEndedError": "storyreel.cluster.errors",
    "RenderedFilm": "storyreel.rendering",
    "Renderer": "storyreel.rendering",
    "StorageError": "storyreel.stages.errors",
    "Story": "storyreel.stages.output.records",
    "StoryreelError": "storyreel.stages.errors",
    "make_story": "storyreel.rendering",
    "open_job": "storyreel.jobs",
    "submit": "storyreel.jobs",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(f"{_HOMES[name]}:{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
