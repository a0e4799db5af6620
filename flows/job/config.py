"""One complete run as one TOML file: the sections of all the stages and of the cluster.

A configuration is a name of the bundled ones (pocket, sd15, sd21, sdxl) or a file; profiles (draft,
fast, paper) and single values are laid over it.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

import storyreel
from storyreel.cluster.config import ClusterConfig, PoolConfig
from storyreel.flows.job.window import Window
from storyreel.stages.films.config import FilmsConfig
from storyreel.stages.input.story_rows import shorten
from storyreel.stages.keyframes.config import KeyframesConfig
from storyreel.stages.motion.config import MotionConfig
from storyreel.stages.output.access_config import ReferencesConfig, StorageConfig
from storyreel.stages.prompts.config import PromptsConfig
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.settings import Settings

CONFIGS = Path(storyreel.__file__).resolve().parent / "configs"


OPERATION = {"execution", "pools", "cluster", "references", "retention", "scoring", "storage"}
"""The sections that shape no pixel."""

STORIES_PER_ACTOR = 2
"""Stories that are open for every actor, so that one is ready when another's clips are out."""

MIN_OPEN_SHARDS = 4
MAX_OPEN_SHARDS = 64


class PoolsConfig(Settings):
    """The pools of actors; they say where and how many at once, never what a pixel is."""

    render: PoolConfig
    """Actors that hold the keyframe and motion stages and take whatever unit is ready."""
    assembly: PoolConfig
    """Actors that hold the prompts and films stages."""
    scoring: PoolConfig = PoolConfig()
    """Actors that hold the encoder with which `evaluate` scores."""


def _known_window(text: str | None) -> str | None:
    return None if text is None else str(Window.parse(text))


class ExecutionConfig(Settings):
    """How a job is cut and how much of it is open at a time."""

    shard_size: int | None = Field(default=None, ge=1, le=500)
    """Stories in a shard, one row of stage tasks in the Prefect UI; none: by the job's size."""
    open_shards: int | None = Field(default=None, ge=1, le=64)
    """Shards worked on at a time; none: enough that no actor waits at a shard's edge."""
    window: Annotated[str | None, AfterValidator(_known_window)] = None
    """Hours of the day in which the job may run, such as `22:00-06:00 Europe/Berlin`."""
    drain_quantile: float = Field(default=0.99, gt=0, le=1)
    """Share of a stage's units that are over in the time a unit is given before the window ends."""
    poll_s: float = Field(default=2.0, gt=0, le=60)
    """Time between two looks at the control record, seconds."""
    keep_paused_s: float = Field(default=300.0, ge=0)
    """Time after which a paused job lets its actors go, with their GPUs, seconds."""

    def stories_per_shard(self, num_stories: int) -> int:
        """The shard size of a job: one story up to 64 stories, 500 from 32,000 on.

        Films of a small job come one by one, and a large one has a few hundred rows in the UI.
        """
        return self.shard_size or max(1, min(500, -(-num_stories // 64)))


class RetentionConfig(Settings):
    """Which files a job keeps."""

    keep: Literal["all", "films"] = "all"
    """With "films", the keyframes and clips of a story are removed once its film is sealed."""


class RenderConfig(Settings):
    """Everything that one run is made of."""

    num_threads: int = Field(default=1, ge=1, le=256)
    """PyTorch threads in every actor: sums depend on it in their last bits, so it shapes pixels."""
    prompts: PromptsConfig
    keyframes: KeyframesConfig
    motion: MotionConfig
    films: FilmsConfig
    execution: ExecutionConfig = ExecutionConfig()
    pools: PoolsConfig
    cluster: ClusterConfig = ClusterConfig()
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
        """Shards of a job of so many stories that are worked on at a time."""
        stories = STORIES_PER_ACTOR * self.pools.render.num_actors
        wanted = -(-stories // self.execution.stories_per_shard(num_stories))
        return self.execution.open_shards or max(MIN_OPEN_SHARDS, min(MAX_OPEN_SHARDS, wanted))

    def rendering(self) -> dict[str, Any]:
        """What shapes the pixels, as plain values; actors, limits and addresses do not."""
        return self.model_dump(mode="json", exclude=OPERATION)

    def operation(self) -> dict[str, Any]:
        """The rest: what may differ from one night of a job to the next."""
        return self.model_dump(mode="json", include=OPERATION)


def load_config(
    name: str, *, profile: str | None = None, overrides: Sequence[str] = ()
) -> RenderConfig:
    """Read a configuration by its name or file, lay a profile and `key=value` overrides over it.

    Raises:
        ValueError: names the file, the key, the value and what is allowed.
    """
    values = _read(_find(name, CONFIGS))
    if profile is not None:
        values = _merge(values, _read(_find(profile, CONFIGS / "profiles")))
    return make_config(f"config {name}", values, overrides)


def make_config(
    place: str, values: Mapping[str, Any], overrides: Sequence[str] = ()
) -> RenderConfig:
    """The configuration of the given values, `key=value` overrides laid over them.

    Raises:
        ValueError: names the place, the key, the value and what is allowed.
    """
    for override in overrides:
        values = _merge(values, _parse_override(override))
    try:
        return RenderConfig.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{place}: {_explain(error)}") from error


def digest(value: Any) -> str:
    """A stable hash of plain values."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _find(name: str, folder: Path) -> Path:
    bundled = sorted(path.stem for path in folder.glob("*.toml"))
    if name in bundled:
        return folder / f"{name}.toml"
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"config {name!r}: no such file, and not one of {', '.join(bundled)}")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path}: {error}") from error


def _parse_override(override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    if not separator or not all(key.strip().split(".")):
        raise ValueError(f"--set {shorten(override)}: must be key=value, such as films.fps=12")
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
    return merged


def _explain(error: ValidationError) -> str:
    return "; ".join(_explain_one(entry) for entry in error.errors())


def _explain_one(entry: Any) -> str:
    if not entry["loc"]:  # of several sections, which the message names
        return str(entry["msg"])
    key = ".".join(str(part)[:60] for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        known = ", ".join(sorted(_section(entry["loc"][:-1]).model_fields))
        return f"{key}: unknown key; known are {known}"
    if entry["type"] == "missing":
        return f"{key}: missing"
    return f"{key} = {shorten(entry['input'])}: {entry['msg']}"


def _section(location: tuple[Any, ...]) -> type[Settings]:
    section: Any = RenderConfig
    for part in location:
        section = _model_in(section.model_fields[part].annotation)
    checked: type[Settings] = section
    return checked


def _model_in(annotation: Any) -> Any:
    """The Settings class in `X` or `X | None`."""
    options = getattr(annotation, "__args__", (annotation,))
    return next(o for o in options if isinstance(o, type) and issubclass(o, Settings))
