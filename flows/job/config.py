"""The configuration of a run: one TOML file with a section for each stage and for the cluster.

A configuration is named (the bundled pocket, sd15, sd21, sdxl) or is a file. A profile (draft,
fast, paper, or a file) and single values override parts of it.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

import storyreel
from storyreel.cluster.config import ClusterConfig, PoolConfig
from storyreel.flows.job.window import Window
from storyreel.stages.errors import InputError
from storyreel.stages.films.config import FilmsConfig
from storyreel.stages.input.config import InputConfig
from storyreel.stages.keyframes.config import KeyframesConfig
from storyreel.stages.motion.config import MotionConfig
from storyreel.stages.output.access_config import ReferencesConfig, StorageConfig
from storyreel.stages.prompts.config import PromptsConfig
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.settings import Settings
from storyreel.stages.validation import shorten, validated

CONFIGS = Path(storyreel.__file__).resolve().parent / "configs"
"""Folder of the bundled configurations; its `profiles` folder has the bundled profiles."""

OPERATION = {
    "cluster",
    "execution",
    "input",
    "metrics",
    "pools",
    "references",
    "retention",
    "scoring",
    "storage",
}
"""Sections that do not affect pixels, and may change between two runs of a job."""

STORIES_PER_ACTOR = 2
"""Open stories per actor: one is ready while the last clips of another are in flight."""

MIN_OPEN_SHARDS = 4
MAX_OPEN_SHARDS = 64


class PoolsConfig(Settings):
    """The pools of actors: how many run, and where; neither affects pixels."""

    render: PoolConfig
    """Actors that load the keyframe and motion stages and run whichever unit is ready."""
    assembly: PoolConfig
    """Actors that load the prompts and films stages."""
    scoring: PoolConfig = PoolConfig()
    """Actors that load the encoder with which `evaluate` scores."""


def _known_window(text: str | None) -> str | None:
    return None if text is None else str(Window.parse(text))


class ExecutionConfig(Settings):
    """The division of a job into shards, and the number of shards that run at a time."""

    shard_size: int | None = Field(default=None, ge=1, le=500)
    """Stories in a shard, which is one row of stage tasks in the Prefect UI; unset: by job size."""
    open_shards: int | None = Field(default=None, ge=1, le=64)
    """Shards rendered at a time; unset: enough that no actor waits at the end of a shard."""
    window: Annotated[str | None, AfterValidator(_known_window)] = None
    """Hours of the day in which the job may run, such as `22:00-06:00 Europe/Berlin`."""
    drain_quantile: float = Field(default=0.99, gt=0, le=1)
    """A unit starts only if this quantile of its stage's durations ends within the window."""
    poll_s: float = Field(default=2.0, gt=0, le=60)
    """Interval at which the control record is read, seconds."""
    mixed_environments: bool = False
    """Continue a job on other hardware or library versions than it was begun on: other bytes."""
    keep_paused_s: float = Field(default=300.0, ge=0)
    """Time after which a paused job stops its actors, which frees their GPUs, seconds."""

    def stories_per_shard(self, num_stories: int) -> int:
        """Return the shard size of a job: 1 up to 64 stories, 500 from 32,000 stories on.

        So the films of a small job finish one by one, and a large job has a few hundred rows in the
        Prefect UI.
        """
        return self.shard_size or max(1, min(500, -(-num_stories // 64)))


class MetricsConfig(Settings):
    """Metrics for Prometheus, at `/metrics` of the process that runs the job."""

    port: int | None = Field(default=None, ge=1, le=65535)
    """Port; unset: none are served."""
    host: str = Field(default="127.0.0.1", pattern=r"^[A-Za-z0-9_.:-]+$")
    """Address to listen on; whoever reaches it can read the metrics."""


class RetentionConfig(Settings):
    """Files that a job keeps."""

    keep: Literal["all", "films"] = "all"
    """With "films", the keyframes and clips of a story are removed once its shard is finished."""


class RenderConfig(Settings):
    """The complete configuration of a run."""

    num_threads: int = Field(default=1, ge=1, le=256)
    """PyTorch threads in each actor. Affects pixels: sums depend on it in their last bits."""
    prompts: PromptsConfig
    keyframes: KeyframesConfig
    motion: MotionConfig
    films: FilmsConfig
    execution: ExecutionConfig = ExecutionConfig()
    pools: PoolsConfig
    cluster: ClusterConfig = ClusterConfig()
    input: InputConfig = InputConfig()
    metrics: MetricsConfig = MetricsConfig()
    references: ReferencesConfig = ReferencesConfig()
    retention: RetentionConfig = RetentionConfig()
    scoring: ScoringConfig = ScoringConfig()
    storage: StorageConfig = StorageConfig()

    @model_validator(mode="after")
    def _clips_are_shaped_as_keyframes(self) -> Self:
        keyframes, motion = self.keyframes, self.motion
        if motion.width is None or motion.height is None:
            return self
        if motion.width * keyframes.height != motion.height * keyframes.width:
            raise ValueError(
                f"motion.width x motion.height: {motion.width} x {motion.height}, allowed are the"
                f" proportions of the keyframes, {keyframes.width} x {keyframes.height}"
            )
        return self

    def num_open_shards(self, num_stories: int) -> int:
        """Return how many shards of a job with `num_stories` stories are rendered at a time."""
        stories = STORIES_PER_ACTOR * self.pools.render.num_actors
        wanted = -(-stories // self.execution.stories_per_shard(num_stories))
        return self.execution.open_shards or max(MIN_OPEN_SHARDS, min(MAX_OPEN_SHARDS, wanted))

    def rendering(self) -> dict[str, Any]:
        """Return the sections that affect pixels, as plain values; they are fingerprinted."""
        return self.model_dump(mode="json", exclude=OPERATION)

    def operation(self) -> dict[str, Any]:
        """Return the other sections, as plain values; they may change between runs of a job."""
        return self.model_dump(mode="json", include=OPERATION)


def load_config(
    name: str, *, profile: str | None = None, overrides: Sequence[str] = ()
) -> RenderConfig:
    """Read a configuration by name or file, overridden by a profile and by `key=value` pairs.

    Raises:
        InputError: names the file, the key, the value and what is allowed.
    """
    values = _read(_find(name, CONFIGS))
    if profile is not None:
        values = _merge(values, _read(_find(profile, CONFIGS / "profiles")))
    return make_config(f"config {name}", values, overrides)


def make_config(
    place: str, values: Mapping[str, Any], overrides: Sequence[str] = ()
) -> RenderConfig:
    """Construct a configuration from `values`, overridden by `key=value` pairs.

    Raises:
        InputError: names the place, the key, the value and what is allowed.
    """
    for override in overrides:
        values = _merge(values, _parse_override(override))
    return validated(RenderConfig, values, place)


def digest(value: Any) -> str:
    """Return a hash of plain values (sha256 of their canonical JSON, in hexadecimal)."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _find(name: str, folder: Path) -> Path:
    bundled = sorted(path.stem for path in folder.glob("*.toml"))
    if name in bundled:
        return folder / f"{name}.toml"
    path = Path(name)
    if not path.is_file():
        raise InputError(f"config {name!r}: is neither a file nor one of {', '.join(bundled)}")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config {path}: {error}") from error


def _parse_override(override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    if not separator or not all(key.strip().split(".")):
        raise InputError(f"--set {shorten(override)}: must be key=value, such as films.fps=12")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
        if both and old.get("kind") != value.get("kind", old.get("kind")):  # type: ignore[union-attr]
            merged[key] = value  # the keys of one kind mean nothing to another
    return merged
