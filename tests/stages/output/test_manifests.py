from pathlib import Path

import pytest

from storyreel.stages.output.manifests import (
    Shard,
    manifest_path,
    read_manifest,
    read_manifests,
    write_manifest,
)
from storyreel.stages.output.records import Character, Keyframe
from storyreel.stages.output.storage import Output


def character(name: str) -> Character:
    return Character(name=name, description="a fox", reference_image=None)


def test_the_name_of_a_manifest_says_which_shard_of_how_many_it_is() -> None:
    path = manifest_path("clips", Shard(index=3, count=64))
    assert path == "manifests/clips/00003-of-00064.parquet"


def test_shards_are_read_in_order_as_one_table(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    for index in (1, 0):
        path = manifest_path("characters", Shard(index=index, count=2))
        write_manifest(output, path, Character, [character(f"{index}")], fingerprint="")
    names = [c.name for c in read_manifests(output, "characters", Character)]
    assert names == ["0", "1"]


def test_a_manifest_without_rows_is_still_a_manifest(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    write_manifest(output, "m.parquet", Character, [], fingerprint="")
    assert read_manifest(output, "m.parquet", Character) == []


def test_a_truncated_manifest_is_named(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    write_manifest(output, "m.parquet", Character, [character("fox")], fingerprint="")
    whole = (tmp_path / "m.parquet").read_bytes()
    (tmp_path / "m.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"m.parquet: not a readable manifest"):
        read_manifest(output, "m.parquet", Character)


def test_a_manifest_of_another_record_is_refused(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    write_manifest(output, "m.parquet", Character, [character("fox")], fingerprint="")
    with pytest.raises(
        ValueError, match=r"m\.parquet: not a readable manifest: .*Keyframe.*story_id: is missing"
    ):
        read_manifest(output, "m.parquet", Keyframe)
