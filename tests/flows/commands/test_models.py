"""`storyreel models fetch` from a hub on this machine; what it leaves is enough offline."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import Command
from tests.stages.tiny import save_tiny_image_prompt, save_tiny_pipeline, tiny_pipeline

COMMIT = "c" * 40
"""The only revision of the repositories."""


class Hub(BaseHTTPRequestHandler):
    """Serves the folders below `root` as repositories, as far as downloads need it."""

    root: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.asked.append(path)
        if path.startswith("api/models/"):
            _, _, owner, name, *inner = path.split("/")
            content = self._listing(f"{owner}/{name}", as_tree=inner[:1] == ["tree"])
        elif path.count("/") < 4:
            content = None
        else:
            owner, name, _, revision, *inner = path.split("/")
            file = self.root / owner / name / "/".join(inner)
            content = file.read_bytes() if revision in (COMMIT, "main") and file.is_file() else None
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _listing(self, repo: str, *, as_tree: bool) -> bytes | None:
        folder = self.root / repo
        if not folder.is_dir():
            return None
        files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        if as_tree:
            entries = [{"type": "file", "path": n, "size": 1, "oid": "0"} for n in sorted(files)]
            return json.dumps(entries).encode()
        siblings = [{"rfilename": name} for name in sorted(files)]
        listing = {"id": repo, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
        return json.dumps(listing).encode()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("Here", (Hub,), {"root": tmp_path / "hub", "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield handler
        server.shutdown()


def test_what_a_configuration_names_is_fetched_and_then_checked_offline(
    command: Command, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = hub.root / "someone" / "family"
    tiny_pipeline("sd15").save_pretrained(family, variant="fp16")
    save_tiny_pipeline(family, "sd15")  # both precisions, as published ones are
    save_tiny_image_prompt(family, "sd15")
    (family / "unet" / "pickled.bin").write_bytes(b"never fetched")
    settings = [
        "keyframes.model.path=someone/family",
        f"keyframes.model.revision={COMMIT}",
        "keyframes.model.variant=fp16",
        "keyframes.image_prompt.path=someone/family",
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    done = command.run("models", "fetch", str(command.config), *options)
    assert done.returncode == 0, done.stderr
    assert "someone/family: " in done.stdout
    assert f"{command.config}" not in done.stdout
    taken = [path for path in hub.asked if path.endswith((".safetensors", ".bin"))]
    assert any(path.endswith("unet/diffusion_pytorch_model.fp16.safetensors") for path in taken)
    never = ("unet/diffusion_pytorch_model.safetensors", ".bin")
    assert not any(path.endswith(never) for path in taken)
    assert any(path.endswith("image_prompt/ip-adapter_pocket.safetensors") for path in taken)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    seen = len(hub.asked)
    checked = command.run("doctor", "--config", str(command.config), "--json", *options[:6])
    found = {finding["check"]: finding for finding in json.loads(checked.stdout)}
    assert found["model someone/family"]["verdict"] == "ok", found["model someone/family"]
    assert len(hub.asked) == seen


def test_a_repository_that_is_not_there_is_named(command: Command, hub: type[Hub]) -> None:
    hub.root.mkdir()
    setting = "keyframes.model.path=nobody/nothing"
    done = command.run("models", "fetch", str(command.config), "--set", setting)
    assert done.returncode == 2
    assert "nobody/nothing: cannot be fetched" in done.stderr
