"""The records of the units of a job on a local disk, whether packed or in files of their own."""

from pathlib import Path

from storyreel.stages.output.commits import COMMITTED
from storyreel.stages.output.manifests import read_manifest, write_manifest
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import PACK, PackedRecord


def commit_records(output: Path, stage: str = "*") -> dict[str, str]:
    """Return the commit records by the paths that they have, or had before they were packed."""
    while True:
        try:
            return _own_files(output, stage) | _packed(output, stage)
        except FileNotFoundError:
            continue  # they were packed meanwhile


def open_attempts(output: Path) -> list[str]:
    """Return the attempt records of units that have no commit record."""
    done = {path.removesuffix(COMMITTED) for path in commit_records(output)}
    paths = (str(path.relative_to(output)) for path in output.glob("units/*/*/*.attempt-*"))
    return [path for path in paths if path.rpartition(".attempt-")[0] not in done]


def replace_record(output: Path, path: str, content: str | None) -> None:
    """Change a packed record; `None` removes it."""
    pack = str(Path(path).parent / PACK)
    place = Output(str(output))
    records = {r.name: r for r in read_manifest(place, pack, PackedRecord)}
    name = Path(path).name
    records.pop(name, None)
    if content is not None:
        records[name] = PackedRecord(name=name, content=content)
    write_manifest(place, pack, PackedRecord, records.values(), fingerprint="")


def _own_files(output: Path, stage: str) -> dict[str, str]:
    paths = sorted(output.glob(f"units/{stage}/*/*{COMMITTED}"))
    return {str(path.relative_to(output)): path.read_text() for path in paths}


def _packed(output: Path, stage: str) -> dict[str, str]:
    packs = [str(p.relative_to(output)) for p in sorted(output.glob(f"units/{stage}/*/{PACK}"))]
    return {
        f"{Path(pack).parent}/{record.name}": record.content
        for pack in packs
        for record in read_manifest(Output(str(output)), pack, PackedRecord)
        if record.name.endswith(COMMITTED)
    }
