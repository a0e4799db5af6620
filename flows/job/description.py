"""`job.json`: what a job consists of and what its pixels depend on.

The fingerprint is a hash of everything that shapes pixels. A job is continued only with the same
fingerprint, so that one output never mixes two looks.
"""

import json
from collections.abc import Iterator
from typing import Any

from storyreel.flows.job.config import RenderConfig, digest
from storyreel.flows.job.layout import Census
from storyreel.stages.models.config import model_revisions
from storyreel.stages.output.storage import Output

JOB = "job.json"

RENDERING_VERSION = 2
"""Raised whenever the same job would give other pixels, or other records, than before."""

MAX_SHARDS = 1_000_000
"""A `job.json` with more shards is refused, since listing them would take too long."""


def describe(config: RenderConfig, census: Census, sample_size: int) -> dict[str, Any]:
    """The content of `job.json` for an input and a configuration."""
    shaping = {
        "rendering_version": RENDERING_VERSION,
        "input_sha256": census.sha256,
        "models": model_revisions(config.prompts, config.keyframes, config.motion),
        "rendering": config.rendering(),
    }
    return {
        **shaping,
        "fingerprint": digest(shaping),
        "num_stories": census.num_stories,
        "num_rejected": census.num_rejected,
        "shard_size": config.execution.stories_per_shard(census.num_stories),
        "operation": config.operation(),
        "sample_size": min(sample_size, census.num_stories),
    }


def claim(output: Output, description: dict[str, Any]) -> None:
    """Write `job.json`, unless the output contains the same job already.

    Raises:
        ValueError: the output contains another job; the message lists the differences.
    """
    if differences := differences_from(output, description):
        raise ValueError(
            f"output {output.url}: holds a different job ({'; '.join(differences)});"
            " choose another --output, or pass --discard-other-job to delete it"
        )
    if output.exists(JOB):
        return
    if not output.publish_new(JOB, json.dumps(description, indent=1, sort_keys=True).encode()):
        claim(output, description)  # another command was faster; it must have the same job


def differences_from(output: Output, description: dict[str, Any]) -> list[str]:
    """How the job at an output differs from a description; empty if it is the same or none."""
    if output.exists(JOB):
        there = read_description(output)
        same = there["fingerprint"] == description["fingerprint"]
        return [] if same else list(_differences(there, description))
    if output.exists("manifests") or output.exists("units"):
        return [f"files of a job without its {JOB}"]
    return []


def _differences(there: Any, wanted: Any, key: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in sorted(there.keys() | wanted.keys()):
            if name not in ("fingerprint", "operation"):
                inner = f"{key}.{name}" if key else name
                yield from _differences(there.get(name), wanted.get(name), inner)
    elif there != wanted:
        yield f"{key.removeprefix('rendering.')}: {there!r} there, {wanted!r} here"


def read_description(output: Output) -> dict[str, Any]:
    """Read `job.json` and check the values that a job is constructed from.

    Raises:
        ValueError: there is none, or a value is missing, of the wrong type or out of range.
    """
    try:
        return output.read_json(JOB, _parse)
    except FileNotFoundError:
        raise ValueError(f"output {output.url}: holds no job") from None
    except ValueError as error:
        raise ValueError(f"output {output.url}: {error}") from error


def _parse(content: Any) -> dict[str, Any]:
    counts = ("num_stories", "num_rejected", "shard_size", "sample_size")
    kinds = dict.fromkeys(counts, int) | {"fingerprint": str, "rendering": dict, "operation": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(content[key], kind)]
    if wrong or not _are_in_range(*(content[key] for key in counts)):
        raise ValueError(", ".join(wrong) or "its counts")
    return dict(content)


def _are_in_range(num_stories: int, num_rejected: int, shard_size: int, sample_size: int) -> bool:
    return (
        0 <= sample_size <= num_stories
        and num_rejected >= 0
        and shard_size >= 1
        and num_stories <= MAX_SHARDS * shard_size
    )
