"""Where the jobs of a shared server may be written: below the roots that its owner allows."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem

from stages.urls import check_no_credentials


def check_allowed(url: str, roots: Sequence[str]) -> None:
    """Refuse an output that is not below one of the roots.

    Links in local paths are followed first, so that none leads out of its root. A root itself is no
    output: jobs would share it.

    Raises:
        ValueError: names the output and what is allowed.
    """
    check_no_credentials("output", url)
    wanted = _place(url)
    for root in roots:
        allowed = _place(root)
        same_kind = wanted[0] == allowed[0]
        if same_kind and wanted != allowed and PurePosixPath(wanted[1]).is_relative_to(allowed[1]):
            return
    raise ValueError(f"output {url}: must be below one of {', '.join(roots) or '(no root is set)'}")


def _place(url: str) -> tuple[str, str]:
    """The kind of storage and the path in it, without links and `..`."""
    if "::" in url:
        raise ValueError(f"output {url}: chained file systems are not allowed")
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ValueError(f"output {url}: {error}") from error
    if isinstance(filesystem, LocalFileSystem):
        return "file", str(Path(path).resolve())
    if ".." in PurePosixPath(path).parts:
        raise ValueError(f"output {url}: must hold no ..")
    protocol = filesystem.protocol
    return (protocol if isinstance(protocol, str) else protocol[0]), path
