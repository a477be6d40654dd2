"""An S3 of this machine, as moto's server has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

FAR = 6_000_000
KEY, SECRET = "AKIA0NAMEOFACCOUNT", "signs/every+request"


def start_of(wanted: str) -> int:
    """Return the first byte of a range."""
    return int(wanted.removeprefix("bytes=").partition("-")[0])


@dataclass
class Store:
    """An S3 of this machine.

    Attributes:
        files: What the test reaches it through.
        url: Where it is.
        queries: Of every request, what stands behind its question mark.
        asked: Of every request: method, path, range, and the ETag it insists on.
        meanwhile: Called once, at a request for a range far behind the object's beginning.
    """

    files: Any
    url: str
    queries: list[str] = field(default_factory=list)
    asked: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    meanwhile: Callable[[], object] | None = None

    def seen(self, app: Callable[..., Any]) -> Callable[..., Any]:
        """Return the application, every request to which is noted."""

        def noted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            wanted = environ.get("HTTP_RANGE")
            self.queries.append(environ["QUERY_STRING"])
            self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], wanted, environ.get("HTTP_IF_MATCH")))
            if self.meanwhile is not None and wanted and start_of(wanted) > FAR:
                once, self.meanwhile = self.meanwhile, None
                once()
            return app(environ, start_response)

        return noted

    def put(self, address: str, content: bytes) -> str:
        """Store an object; return its address."""
        self.files.pipe_file(address, content)
        return address


@contextmanager
def serving() -> Iterator[ThreadedMotoServer]:
    """Run a server; its end takes half a second."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@contextmanager
def led_to(server: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Lead this process and its children to a server without anything in it but buckets."""
    url = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    urlopen(f"{url}/moto-api/reset", data=b"").close()  # noqa: S310 - an address of our own
    S3FileSystem.clear_instance_cache()
    files = S3FileSystem(use_listings_cache=False)
    for bucket in ("market-data", "market-data-of-others"):
        files.makedirs(bucket, exist_ok=True)
    store, plain = Store(files, url), server._server.app  # type: ignore[union-attr]
    server._server.app = store.seen(plain)  # type: ignore[union-attr]
    yield store
    server._server.app = plain  # type: ignore[union-attr]
    S3FileSystem.clear_instance_cache()
