"""Editions of a shard: what its earlier generations have, which no later one may overwrite."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from storyreel.flows.job.stage_table import ShardContext, StageSpec
from storyreel.stages.output.copies import copy_of
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest
from storyreel.stages.output.records import files_of
from storyreel.stages.output.storage import Output


def earlier_generations(shard: Shard) -> Iterator[Shard]:
    """Yield the generations of a shard before this one, the first one first."""
    for generation in range(shard.generation):
        yield replace(shard, generation=generation)


def rows_of(output: Output, shard: Shard, spec: StageSpec) -> Iterator[Any]:
    """Yield the rows of a stage's manifests in one generation of a shard, as far as they exist."""
    for manifest in spec.manifests:
        path = manifest_path(manifest.table, shard)
        if output.exists(path):
            yield from read_manifest(output, path, manifest.record)


def kept_copies(context: ShardContext, spec: StageSpec) -> Mapping[str, int]:
    """Return the number of the last copy of each story's files that earlier editions have.

    What was rendered before an edit stays readable, so what is rendered after it gets other names.
    """
    kept: defaultdict[str, int] = defaultdict(int)
    if spec.files is None:
        return kept
    for earlier in earlier_generations(context.shard):
        if earlier.generation < context.shard.edition:
            for row in rows_of(context.output, earlier, spec):
                copies = (copy_of(file.path) for file in files_of(row))
                kept[row.story_id] = max(kept[row.story_id], *copies)
    return kept
