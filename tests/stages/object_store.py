"""A real S3 server on loopback, which can be told to misbehave."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

BUCKET = "films"

SLOW_DOWN = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>planted</Message></Error>"""


class ObjectStore:
    """Serves S3; `refuse` may answer a request in place of it, `seen` counts the requests."""

    def __init__(self) -> None:
        self.refuse: Callable[[Request], int | None] = lambda request: None
        self.seen = 0
        self._app = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.seen += 1
        status = self.refuse(Request(environ, populate_request=False))
        if status is None:
            return self._app(environ, start_response)
        code = {
            400: "ExpiredToken",
            403: "AccessDenied",
            501: "NotImplemented",
            503: "SlowDown",
        }.get(status, "InternalError")
        body = SLOW_DOWN.format(code=code)
        return Response(body, status, content_type="application/xml")(environ, start_response)


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """The store, with an empty bucket, and an environment in which S3 is this one."""
    store = ObjectStore()
    server = make_server("127.0.0.1", 0, store, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEY",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    try:
        yield store
    finally:
        store.refuse = lambda request: None
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for entry in page.get("Contents", []):
                client.delete_object(Bucket=BUCKET, Key=entry["Key"])
        client.delete_bucket(Bucket=BUCKET)
        server.shutdown()
        thread.join()
        server.server_close()
