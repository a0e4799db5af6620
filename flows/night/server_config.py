"""The `[server]` section of `storyreel serve`: where it listens, keeps its data, and may write."""

import os
import tomllib
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from storyreel.stages.output.urls import check_no_credentials
from storyreel.stages.settings import Settings

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
ENVIRONMENT = "STORYREEL_SERVER"
"""Names the server's TOML file to its worker and to the commands that talk to it."""


class ServerConfig(Settings):
    """One machine's server: Prefect with its UI, a worker, and the gallery of the outputs."""

    host: str = Field(default="127.0.0.1", pattern=r"^[A-Za-z0-9_.:-]+$")
    """Address to listen on; beyond loopback `auth_file` is required."""
    public_host: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.:-]+$")
    """How browsers and other machines reach this one; needed where `host` is 0.0.0.0 or ::."""
    port: int = Field(default=4200, ge=1, le=65535)
    """Prefect's API and UI."""
    gallery_port: int = Field(default=4210, ge=1, le=65535)
    """The gallery; an origin of its own, so that no page there can act in the Prefect UI."""
    home: Path = Path("~/.storyreel")
    """The folder of the embedded database."""
    database_url: str | None = Field(default=None, pattern=r"^postgresql\+asyncpg://")
    """A Postgres database for teams; without it an SQLite file in `home`."""
    outputs: tuple[str, ...] = Field(default=("output",), min_length=1)
    """Folders or object-store URLs below which jobs may write; the gallery shows the folders."""
    auth_file: Path | None = None
    """A file with one line `user:password`, readable by its owner only."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.host not in LOOPBACK and self.auth_file is None:
            raise ValueError(f"host {self.host}: listening beyond loopback needs auth_file")
        if self.host in {"0.0.0.0", "::"} and self.public_host is None:  # noqa: S104, it is refused
            raise ValueError(f"host {self.host}: needs public_host, the name that browsers use")
        if self.port == self.gallery_port:
            raise ValueError(f"port {self.port}: gallery_port must be another one")
        names = [_root_name(root) for root in self.outputs]
        if len(set(names)) < len(names):
            raise ValueError(f"outputs {list(self.outputs)}: their last parts must differ")
        return self

    @property
    def api_url(self) -> str:
        """Prefect's API, for its clients."""
        return f"http://{self._reached_at}:{self.port}/api"

    @property
    def ui_url(self) -> str:
        """Prefect's UI, for browsers."""
        return f"http://{self._reached_at}:{self.port}"

    @property
    def gallery_url(self) -> str:
        """The gallery, for browsers."""
        return f"http://{self._reached_at}:{self.gallery_port}"

    @property
    def _reached_at(self) -> str:
        host = self.public_host or self.host
        return f"[{host}]" if ":" in host else host

    def roots(self) -> dict[str, str]:
        """The allowed outputs by the names that the gallery gives them."""
        return {_root_name(root): _absolute(root) for root in self.outputs}

    def check_output(self, url: str) -> str:
        """An output below one of the allowed ones, absolute.

        Raises:
            ValueError: it is elsewhere, or holds a secret.
        """
        check_no_credentials("output", url)
        absolute = _absolute(url)
        if not any(absolute.startswith(root + "/") for root in self.roots().values()):
            allowed = ", ".join(self.roots().values())
            raise ValueError(f"output {url}: must be a folder below one of {allowed}")
        return absolute

    def gallery_page(self, output_url: str) -> str | None:
        """The address of an output's gallery page; `None` for an object store."""
        for name, root in self.roots().items():
            if "://" not in root and output_url.startswith(root + "/"):
                return f"{self.gallery_url}/{name}/{output_url.removeprefix(root + '/')}/"
        return None

    def auth_string(self) -> str | None:
        """`user:password`, if the server asks for it.

        Raises:
            ValueError: the file cannot be read, is not one such line, or is open to others.
        """
        if self.auth_file is None:
            return None
        path = self.auth_file.expanduser()
        try:
            line = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"auth_file {path}: {error}") from error
        if path.stat().st_mode & 0o077:
            raise ValueError(f"auth_file {path}: others can read it; run chmod 600 on it")
        user, separator, password = line.partition(":")
        if not (user and separator and password) or len(line.split()) != 1:
            raise ValueError(f"auth_file {path}: must hold one line user:password")
        return line


def load_server_config(path: Path | None = None) -> ServerConfig:
    """Read a server's TOML file; without one, that of STORYREEL_SERVER, else the defaults.

    Relative folders in a file are relative to the file.

    Raises:
        ValueError: names the file, the key and what is allowed.
    """
    named = path or os.environ.get(ENVIRONMENT)
    if named is None:
        return ServerConfig()
    file = Path(named)
    try:
        sections = tomllib.loads(file.read_text(encoding="utf-8"))
        if set(sections) - {"server"}:
            raise ValueError("holds other sections than [server]")
        values = sections.get("server", {})
        return ServerConfig.model_validate(_beside(file.resolve().parent, values))
    except ValidationError as error:
        problems = "; ".join(".".join(map(str, e["loc"])) + f": {e['msg']}" for e in error.errors())
        raise ValueError(f"server config {file}: {problems}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"server config {file}: {error}") from error


def server_to_talk_to(path: Path | None) -> ServerConfig | None:
    """The server that a command talks to; none where Prefect's own settings name one.

    Raises:
        ValueError: see `load_server_config`.
    """
    named = path or os.environ.get(ENVIRONMENT)
    return None if named is None and "PREFECT_API_URL" in os.environ else load_server_config(path)


def _beside(folder: Path, values: dict[str, object]) -> dict[str, object]:
    """The values with relative folders taken from the file's own."""
    resolved = dict(values)
    for key in ("home", "auth_file"):
        if isinstance(value := values.get(key), str):
            resolved[key] = str(folder / Path(value).expanduser())
    if isinstance(outputs := values.get("outputs"), list):
        resolved["outputs"] = [_absolute(str(o), folder) for o in outputs]
    return resolved


def _absolute(url: str, folder: Path | None = None) -> str:
    """A local path without `..` or links, or an object store's URL as it is."""
    if "://" in url:
        if ".." in url.split("/"):
            raise ValueError(f"{url}: must not hold ..")
        return url.rstrip("/")
    return str(((folder or Path.cwd()) / Path(url).expanduser()).resolve())


def _root_name(root: str) -> str:
    return root.rstrip("/").rsplit("/", 1)[-1]
