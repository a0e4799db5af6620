"""Checks what a render needs, before a night is spent on finding out."""

import os
import platform
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import httpx
import psutil
import ray
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from packaging.requirements import Requirement
from prefect.settings import PREFECT_API_URL
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, safe_open

from storyreel.cluster.crew import check_placeable
from storyreel.cluster.ray_runtime import connected
from storyreel.flows.job.config import RenderConfig
from storyreel.stages.errors import InputError
from storyreel.stages.models.config import PACKAGE_ROOT, resolve, weights
from storyreel.stages.models.weights.inspection import check_pipeline
from storyreel.stages.output.storage import Output

FREE_DISK_GB = 10.0
"""Free space under which a disk may not last a night, GB."""

FREE_MEMORY_GB = 2.0
"""Available memory under which a worker may not start, GB."""

PREFECT_TIMEOUT_S = 10.0


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report; `advice` says what to do, and is empty where all is well."""

    check: str
    verdict: Verdict
    message: str
    advice: str = ""


def diagnose(config: RenderConfig, output_url: str | None) -> Iterator[Finding]:
    """Check this machine, the models, the cluster, the storage and Prefect, one after the other.

    Args:
        config: the configuration that is to be rendered with.
        output_url: where to; without it no storage is checked.
    """
    yield Finding(check="python", verdict=Verdict.OK, message=platform.python_version())
    yield from _packages()
    yield _gpus(config)
    yield from _models(config)
    yield from _cluster(config)
    if output_url is not None:
        yield from _storage(output_url)
    yield _disk("temporary folder", Path(tempfile.gettempdir()))
    yield _memory()
    yield _prefect()


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings; what to do stands under what was found."""
    colours = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
    table = Table("check", "", "what was found, and what to do", show_lines=False)
    for finding in findings:
        verdict = f"[{colours[finding.verdict]}]{finding.verdict.value}[/]"
        lines = [finding.message, *([f"-> {finding.advice}"] if finding.advice else [])]
        table.add_row(finding.check, verdict, _plain("\n".join(lines)))
    console.print(table)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _packages() -> Iterator[Finding]:
    requirements = [Requirement(text) for text in _requirements()]
    here = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = [f"{r.name} {_installed(r.name)}, needed {r.specifier}" for r in here if not _suits(r)]
    if not wrong:
        message = f"{len(here)} packages have versions that work together"
        yield Finding(check="packages", verdict=Verdict.OK, message=message)
    for message in wrong:
        advice = "install Storyreel with its constraints.txt; every node needs the same versions"
        yield Finding(check="packages", verdict=Verdict.FAIL, message=message, advice=advice)


def _requirements() -> list[str]:
    try:
        return metadata.requires("storyreel") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        project = tomllib.loads(
            (PACKAGE_ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
        )
        needed: list[str] = project["project"]["dependencies"]
        return needed


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is missing"


def _suits(requirement: Requirement) -> bool:
    version = _installed(requirement.name)
    return version != "is missing" and requirement.specifier.contains(version, prereleases=True)


def _gpus(config: RenderConfig) -> Finding:
    wanted = any(getattr(model, "device", "cpu") == "cuda" for model in weights(config))
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    message = ", ".join(names) or "no GPU that PyTorch can use on this machine"
    verdict, advice = Verdict.OK, ""
    if wanted and not names and config.cluster.address is None:
        verdict = Verdict.FAIL
        advice = "set the models' `device` to cpu, or install a driver and PyTorch with CUDA"
    elif wanted and config.pools.render.num_gpus == 0:
        verdict = Verdict.WARN
        advice = "pools.render.num_gpus is 0: actors will share GPUs; set it to 1"
    elif names and not wanted:
        verdict = Verdict.WARN
        advice = (
            "the configuration does not use it; set keyframes.model.device and motion's to cuda"
        )
    return Finding(check="gpus", verdict=verdict, message=message, advice=advice)


def _models(config: RenderConfig) -> Iterator[Finding]:
    seen: set[tuple[str, str | None]] = set()
    for model in weights(config):
        key = (model.path, model.revision)
        if key not in seen:
            seen.add(key)
            yield _model(model.path, model.revision, getattr(model, "variant", None))


def _model(path: str, revision: str | None, variant: str | None) -> Finding:
    check = f"model {path}"
    fetch = f"hf download {path}" + (f" --revision {revision}" if revision else "")
    try:
        folder = Path(resolve(path))
        is_hub = not folder.exists()
        if is_hub:
            folder = _fetched(path, revision)
        num_files = _read_headers(folder)
        if (folder / "model_index.json").is_file():
            check_pipeline(folder, variant)
    except LocalEntryNotFoundError:
        advice = f"fetch it on every node while it is online: {fetch}"
        message = "is neither a folder nor in the hub's cache of this machine"
        return Finding(check=check, verdict=Verdict.FAIL, message=message, advice=advice)
    except (OSError, ValueError, SafetensorError) as error:
        advice = f"fetch it again: {fetch}" if "/" in path else "install Storyreel again"
        return Finding(check=check, verdict=Verdict.FAIL, message=str(error), advice=advice)
    if is_hub and revision is None:
        advice = "pin it: set its `revision` to a commit, or nights may differ from each other"
        message = f"{num_files} weight files, not pinned"
        return Finding(check=check, verdict=Verdict.WARN, message=message, advice=advice)
    return Finding(check=check, verdict=Verdict.OK, message=f"{num_files} weight files")


def _fetched(path: str, revision: str | None) -> Path:
    """The folder in the hub's cache."""
    # Only what will be loaded is fetched; without a pattern the hub would call that incomplete.
    pattern = "model_index.json"
    return Path(
        snapshot_download(path, revision=revision, local_files_only=True, allow_patterns=pattern)
    )


def _read_headers(folder: Path) -> int:
    """Count the weight files of a folder; the header of each must match its length.

    Raises:
        ValueError: there is none.
        SafetensorError: one is damaged.
    """
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: holds no .safetensors file")
    for file in files:
        with safe_open(file, framework="numpy"):
            pass
    return len(files)


def _cluster(config: RenderConfig) -> Iterator[Finding]:
    yield _token()
    address = config.cluster.address or "a local Ray"
    with ExitStack() as stack:
        try:
            stack.enter_context(connected(config.cluster))
        except Exception as error:  # whatever keeps Ray from starting is the finding
            advice = (
                "see docs/cluster.md: address, port, firewall, and the same token file everywhere"
            )
            yield Finding(check="ray", verdict=Verdict.FAIL, message=str(error), advice=advice)
            return
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        have = ray.cluster_resources()  # type: ignore[no-untyped-call]
        sizes = ", ".join(f"{have.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
        count = f"{len(nodes)} node{'s' * (len(nodes) != 1)}"
        message = f"{address}: {count} with {sizes}"
        yield Finding(check="ray", verdict=Verdict.OK, message=message)
        yield from _pools(config)


def _token() -> Finding:
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if "RAY_AUTH_TOKEN" in os.environ:
        message = "the token comes from RAY_AUTH_TOKEN"
        return Finding(check="ray token", verdict=Verdict.OK, message=message)
    if not path.exists():
        message = f"{path}: there is none yet; a local Ray makes one"
        advice = "for a cluster, copy the head's token file there and `chmod 600` it"
        return Finding(check="ray token", verdict=Verdict.WARN, message=message, advice=advice)
    if path.stat().st_mode & 0o077:
        message = f"{path}: others on this machine can read it"
        advice = f"chmod 600 {path}"
        return Finding(check="ray token", verdict=Verdict.FAIL, message=message, advice=advice)
    return Finding(check="ray token", verdict=Verdict.OK, message=f"{path}, its owner's only")


def _pools(config: RenderConfig) -> Iterator[Finding]:
    for name, pool in (("render", config.pools.render), ("assembly", config.pools.assembly)):
        check = f"pool {name}"
        try:
            check_placeable(name, pool)
        except ValueError as error:
            advice = f"ask for less in pools.{name}, or add a node that has it"
            yield Finding(check=check, verdict=Verdict.FAIL, message=str(error), advice=advice)
        else:
            message = f"{pool.num_actors} actors of {pool.needs() or 'nothing'}"
            yield Finding(check=check, verdict=Verdict.OK, message=message)


def _storage(url: str) -> Iterator[Finding]:
    try:
        output = Output(url)
        output.check_writable()
    except ValueError as error:
        advice = "check the path, the rights, and for a store the credentials and the bucket"
        yield Finding(check="output", verdict=Verdict.FAIL, message=str(error), advice=advice)
        return
    yield Finding(check="output", verdict=Verdict.OK, message=f"{url}: can be written")
    local = Path(output.location(""))
    if local.exists():
        yield _disk("output's disk", local)


def _disk(check: str, folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    message = f"{folder}: {free:.1f} GB free"
    if free >= FREE_DISK_GB:
        return Finding(check=check, verdict=Verdict.OK, message=message)
    advice = "free some, or render elsewhere; a full disk is waited for, not survived for ever"
    return Finding(check=check, verdict=Verdict.WARN, message=message, advice=advice)


def _memory() -> Finding:
    free = psutil.virtual_memory().available / 1e9
    message = f"{free:.1f} GB available"
    if free >= FREE_MEMORY_GB:
        return Finding(check="memory", verdict=Verdict.OK, message=message)
    advice = "end other programs, or have fewer actors (pools.render.num_actors)"
    return Finding(check="memory", verdict=Verdict.WARN, message=message, advice=advice)


def _prefect() -> Finding:
    url = PREFECT_API_URL.value()
    if not url:
        message = "each command starts a server of its own on this machine"
        return Finding(check="prefect", verdict=Verdict.OK, message=message)
    try:
        answer = httpx.get(f"{url}/health", timeout=PREFECT_TIMEOUT_S)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        advice = "start it (`storyreel serve`), correct PREFECT_API_URL, or unset it"
        message = f"{url}: {error}"
        return Finding(check="prefect", verdict=Verdict.FAIL, message=message, advice=advice)
    return Finding(check="prefect", verdict=Verdict.OK, message=f"{url} answers")
