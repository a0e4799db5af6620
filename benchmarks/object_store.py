"""A real S3 server on loopback, which can be slow and can refuse requests."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

BUCKET = "films"

REFUSAL = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>planted</Message></Error>"""

CODES = {400: "ExpiredToken", 403: "AccessDenied", 501: "NotImplemented", 503: "SlowDown"}


class ObjectStore:
    """Serves S3.

    Attributes:
        refuse: may answer a request with an HTTP status in place of the store.
        latency_s: time that every answer takes, at least.
        seen: number of requests by their method.
    """

    def __init__(self) -> None:
        self.refuse: Callable[[Request], int | None] = lambda _request: None
        self.latency_s = 0.0
        self.seen: Counter[str] = Counter()
        self._app = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Answer a request (WSGI)."""
        self.seen[environ["REQUEST_METHOD"]] += 1
        time.sleep(self.latency_s)
        status = self.refuse(Request(environ, populate_request=False))
        if status is None:
            return self._app(environ, start_response)
        body = REFUSAL.format(code=CODES.get(status, "InternalError"))
        return Response(body, status, content_type="application/xml")(environ, start_response)


class _Quiet(WSGIRequestHandler):
    """Logs no request."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002, werkzeug's name
        """Say nothing."""


@contextmanager
def serving() -> Iterator[tuple[ObjectStore, dict[str, str]]]:
    """The store, with an empty bucket, and the environment in which S3 is this one."""
    store = ObjectStore()
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEY",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=BUCKET)
    try:
        yield store, environment
    finally:
        store.refuse, store.latency_s = lambda _request: None, 0.0
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            if keys := [{"Key": entry["Key"]} for entry in page.get("Contents", [])]:
                client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})
        client.delete_bucket(Bucket=BUCKET)
        server.shutdown()
        thread.join()
        server.server_close()
