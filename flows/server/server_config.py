"""Configuration of `storyreel serve`: addresses, data folder, allowed outputs, password."""

import os
import secrets
import tomllib
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from storyreel.stages.errors import InputError
from storyreel.stages.output.urls import check_no_credentials
from storyreel.stages.settings import Settings
from storyreel.stages.validation import validated

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
ENVIRONMENT = "STORYREEL_SERVER"
"""Environment variable with the path of the server's TOML file, for its worker and for commands."""


class ServerConfig(Settings):
    """The server of one machine: Prefect with its UI, a worker, and the gallery of the outputs."""

    host: str = Field(default="127.0.0.1", pattern=r"^[A-Za-z0-9_.:-]+$")
    """Address to listen on; any other than loopback requires `auth_file`."""
    public_host: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.:-]+$")
    """Name or address by which others reach this machine; required if `host` is 0.0.0.0 or ::."""
    port: int = Field(default=4200, ge=1, le=65535)
    """Port of Prefect's API and UI."""
    gallery_port: int = Field(default=4210, ge=1, le=65535)
    """Port of the gallery: a separate origin, so that its pages cannot act in the Prefect UI."""
    home: Path = Path("~/.storyreel")
    """Folder of the embedded database."""
    database_url: str | None = Field(default=None, pattern=r"^postgresql\+asyncpg://")
    """A Postgres database, for teams; unset: an SQLite file in `home`."""
    outputs: tuple[str, ...] = Field(default=("output",), min_length=1)
    """Folders or object-store URLs below which jobs may write; the gallery serves the folders."""
    auth_file: Path | None = None
    """File with one line `user:password`, for its owner only; unset: made in `home` at first."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.host not in LOOPBACK and self.auth_file is None:
            raise InputError(f"host {self.host}: listening beyond loopback needs auth_file")
        if self.host in {"0.0.0.0", "::"} and self.public_host is None:  # noqa: S104, it is refused
            raise InputError(f"host {self.host}: needs public_host, the name that browsers use")
        if self.port == self.gallery_port:
            raise InputError(f"port {self.port}: gallery_port must differ from it")
        names = [_root_name(root) for root in self.outputs]
        if len(set(names)) < len(names):
            raise InputError(f"outputs {list(self.outputs)}: their last parts must differ")
        return self

    @property
    def api_url(self) -> str:
        """URL of Prefect's API."""
        return f"http://{self._reached_at}:{self.port}/api"

    @property
    def ui_url(self) -> str:
        """URL of Prefect's UI."""
        return f"http://{self._reached_at}:{self.port}"

    @property
    def gallery_url(self) -> str:
        """URL of the gallery."""
        return f"http://{self._reached_at}:{self.gallery_port}"

    @property
    def _reached_at(self) -> str:
        host = self.public_host or self.host
        return f"[{host}]" if ":" in host else host

    def roots(self) -> dict[str, str]:
        """Return the allowed outputs by the names that they have in the gallery."""
        return {_root_name(root): _absolute(root) for root in self.outputs}

    def check_output(self, url: str) -> str:
        """Return the absolute URL of an output, which must be below an allowed one.

        Raises:
            InputError: it is elsewhere, or contains a secret.
        """
        check_no_credentials("output", url)
        absolute = _absolute(url)
        if not any(absolute.startswith(root + "/") for root in self.roots().values()):
            allowed = ", ".join(self.roots().values())
            raise InputError(f"output {url}: must be a folder below one of {allowed}")
        return absolute

    def gallery_page(self, output_url: str) -> str | None:
        """Return the URL of an output's gallery page; `None` for an object store."""
        for name, root in self.roots().items():
            if "://" not in root and output_url.startswith(root + "/"):
                return f"{self.gallery_url}/{name}/{output_url.removeprefix(root + '/')}/"
        return None

    @property
    def host_names(self) -> frozenset[str]:
        """The names, without port, by which browsers reach the UI and the gallery."""
        own = {self.host, self.public_host or self.host}
        return frozenset(own | LOOPBACK if self.host in LOOPBACK else own)

    @property
    def password_file(self) -> Path:
        """The file that contains the password."""
        return (self.auth_file or self.home / "auth").expanduser()

    def make_password(self) -> str:
        """Return `user:password`; the first start of a server without `auth_file` makes one.

        Raises:
            InputError: see `auth_string`; or the file cannot be written.
        """
        if self.auth_file is None and not self.password_file.exists():
            make_private(self.password_file)
            password = f"storyreel:{secrets.token_urlsafe(24)}"
            self.password_file.write_text(f"{password}\n", encoding="utf-8")
        auth_string = self.auth_string()
        assert auth_string is not None
        return auth_string

    def auth_string(self) -> str | None:
        """Return `user:password`; `None` if no server was started here that could ask for it.

        Raises:
            InputError: the file cannot be read, has another form, or is readable by others.
        """
        path = self.password_file
        if self.auth_file is None and not path.exists():
            return None
        try:
            line = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"password file {path}: {error}") from error
        if path.stat().st_mode & 0o077:
            raise InputError(f"password file {path}: is readable by others; run chmod 600 on it")
        user, separator, password = line.partition(":")
        if not (user and separator and password) or len(line.split()) != 1:
            raise InputError(f"password file {path}: must contain one line user:password")
        return line


def make_private(path: Path) -> None:
    """Create a file that its owner alone can read, or take the right of others to read it.

    Raises:
        InputError: it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.chmod(0o600)
    except OSError as error:
        raise InputError(f"{path}: {error}; set `home` to a folder that can be written") from error


def load_server_config(path: Path | None = None) -> ServerConfig:
    """Read the TOML file of a server: `path`, else that of STORYREEL_SERVER, else the defaults.

    Relative folders in a file are relative to the file.

    Raises:
        InputError: names the file, the key, the value and what is allowed.
    """
    named = path or os.environ.get(ENVIRONMENT)
    if named is None:
        return ServerConfig()
    file = Path(named)
    place = f"server config {file}"
    try:
        sections = tomllib.loads(file.read_text(encoding="utf-8"))
        if set(sections) - {"server"}:
            raise InputError("contains other sections than [server]")
        values = _relative_to(file.resolve().parent, sections.get("server", {}))
    except (OSError, ValueError) as error:  # not there, not UTF-8, not TOML, ...
        raise InputError(f"{place}: {error}") from error
    return validated(ServerConfig, values, place)


def server_to_talk_to(path: Path | None) -> ServerConfig | None:
    """Return the server that a command connects to; `None` if Prefect's own settings name one.

    Raises:
        InputError: see `load_server_config`.
    """
    named = path or os.environ.get(ENVIRONMENT)
    return None if named is None and "PREFECT_API_URL" in os.environ else load_server_config(path)


def _relative_to(folder: Path, values: dict[str, object]) -> dict[str, object]:
    """The values with relative paths made absolute, relative to `folder`."""
    resolved = dict(values)
    for key in ("home", "auth_file"):
        if isinstance(value := values.get(key), str):
            resolved[key] = str(folder / Path(value).expanduser())
    if isinstance(outputs := values.get("outputs"), list):
        resolved["outputs"] = [_absolute(str(o), folder) for o in outputs]
    return resolved


def _absolute(url: str, folder: Path | None = None) -> str:
    """The absolute local path, links resolved; the URL of an object store is unchanged."""
    if "://" in url:
        if ".." in url.split("/"):
            raise InputError(f"{url}: must not contain ..")
        return url.rstrip("/")
    try:
        return str(((folder or Path.cwd()) / Path(url).expanduser()).resolve())
    except RuntimeError as error:  # ~name of nobody
        raise InputError(f"{url}: {error}") from error


def _root_name(root: str) -> str:
    return root.rstrip("/").rsplit("/", 1)[-1]
