"""A real Chromium, headless, driven over its DevTools protocol."""

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 60.0


class Page:
    """One page of the browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.console: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its answer."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("method") == "Log.entryAdded":
                self.console.append(message["params"]["entry"]["text"])
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> Any:
        """What an expression gives once it is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not (value := self.evaluate(condition)):
            assert time.monotonic() < deadline, (
                condition,
                self.evaluate("document.body.innerText"),
                self.console,
            )
            time.sleep(0.2)
        return value

    def wait_for_text(self, text: str) -> None:
        self.wait_for(f"document.body && document.body.innerText.includes({json.dumps(text)})")

    def click(self, text: str) -> None:
        """Click the innermost visible element with that text."""
        wanted = json.dumps(text)
        self.wait_for(f"""(() => {{
            const all = [...document.querySelectorAll('a, button, [role=tab], li, span, div')];
            const hit = all.filter(e => e.innerText?.trim() === {wanted}).pop();
            hit?.click();
            return Boolean(hit);
        }})()""")

    def screenshot(self, path: Path, width: int = 1280, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        time.sleep(1.0)
        answer = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own.

    Raises:
        FileNotFoundError: no Chromium is installed.
    """
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        raise FileNotFoundError(f"no browser: install chromium (looked for {', '.join(NAMES)})")
    process = subprocess.Popen(
        [
            executable, "--headless=new", "--no-sandbox", "--disable-gpu",
            "--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1280,900",
            "--disable-dev-shm-usage", "--no-first-run", "about:blank",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with connect(_page_socket(profile), max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait()


def _page_socket(profile: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    port_file = profile / "DevToolsActivePort"
    while not port_file.exists() or not port_file.read_text().strip():
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.1)
    port = port_file.read_text().splitlines()[0]
    pages = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
    return str(next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"))
