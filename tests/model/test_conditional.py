"""Small files that several write: of those who read the same, one alone is let through."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from glossator.model.conditional import (
    has_conditional_writes,
    put_if_absent,
    put_if_unchanged,
    read_versioned,
    remove_if_unchanged,
)
from glossator.model.store import open_store

RIVALS = 16


def tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class Bucket(BaseHTTPRequestHandler):
    """As much of S3 as a conditional put needs: https://docs.aws.amazon.com/AmazonS3/latest/API."""

    stored: dict[str, bytes]
    names_condition = True
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.split("?")[0]
        with self.lock:
            there = self.stored.get(path)
            wanted = self.headers.get("If-Match")
            if self.headers.get("If-None-Match") == "*" and there is not None:
                return self.refuse("If-None-Match")
            if wanted is not None and (there is None or wanted != tag(there)):
                return self.refuse("If-Match")
            self.stored[path] = data
        return self.answer(200, b"", tag(data))

    def do_GET(self) -> None:
        self.find(body=True)

    def do_HEAD(self) -> None:
        self.find(body=False)

    def do_DELETE(self) -> None:
        with self.lock:
            self.stored.pop(self.path.split("?")[0], None)
        self.answer(204, b"")

    def find(self, *, body: bool) -> None:
        with self.lock:
            found = self.stored.get(self.path.split("?")[0])
        if found is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>" if body else b"")
        else:
            self.answer(200, found if body else b"", tag(found))

    def refuse(self, condition: str) -> None:
        named = f"<Condition>{condition}</Condition>" if self.names_condition else ""
        self.answer(412, f"<Error><Code>PreconditionFailed</Code>{named}</Error>".encode())

    def answer(self, status: int, body: bytes, version: str = '"0"') -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", version)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(params=[True, False], ids=["names the condition", "only says 412"])
def bucket(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, bytes]]:
    """What an S3 server holds, which s3:// leads to."""
    pytest.importorskip("s3fs")
    fields = {"stored": {}, "names_condition": request.param}
    kind = type("Bucket", (Bucket,), fields)
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield kind.stored  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def one_of_many_succeeds(uri: str) -> bytes:
    """Several write at once; gives what the one that succeeded wrote."""
    with ThreadPoolExecutor(RIVALS) as pool:
        won = list(pool.map(lambda i: put_if_absent(uri, b"%d" % i), range(RIVALS)))
    assert won.count(True) == 1
    assert put_if_absent(uri, b"late") is False
    return b"%d" % won.index(True)


def test_one_of_many_writes_where_nothing_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mark.json"
    wrote = one_of_many_succeeds(str(path))
    assert path.read_bytes() == wrote
    assert [p.name for p in path.parent.iterdir()] == ["mark.json"]


def test_one_of_many_writes_where_nothing_is_in_memory() -> None:
    try:
        wrote = one_of_many_succeeds("memory://absent/mark.json")
        assert fsspec.filesystem("memory").cat_file("/absent/mark.json") == wrote
    finally:
        fsspec.filesystem("memory").rm("/absent", recursive=True)


@pytest.mark.s3
def test_one_of_many_writes_where_nothing_is_on_s3(bucket: dict[str, bytes]) -> None:
    assert has_conditional_writes(open_store("s3://bucket/x")[0])
    wrote = one_of_many_succeeds("s3://bucket/out/mark.json")
    assert bucket == {"/bucket/out/mark.json": wrote}


def test_where_there_are_no_links_a_file_is_still_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert one_of_many_succeeds(str(tmp_path / "mark")) == (tmp_path / "mark").read_bytes()


@pytest.mark.parametrize("target", ["a file", "nothing"])
def test_a_link_is_neither_written_through_nor_replaced(target: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    if target == "a file":
        victim.write_bytes(b"theirs")
    (tmp_path / "mark").symlink_to(victim)
    assert put_if_absent(str(tmp_path / "mark"), b"ours") is False
    assert (tmp_path / "mark").is_symlink()
    assert victim.read_bytes() == b"theirs" if target == "a file" else not victim.exists()


def test_a_store_without_conditions_is_looked_into_first() -> None:
    class Plain(type(fsspec.filesystem("memory"))):  # type: ignore[misc]
        protocol = "plain"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            stripped: str = super()._strip_protocol(path.replace("plain://", "memory://"))
            return stripped

    fsspec.register_implementation("plain", Plain, clobber=True)
    try:
        assert not has_conditional_writes(open_store("plain://looked/x")[0])
        assert put_if_absent("plain://looked/x", b"1") and not put_if_absent(
            "plain://looked/x", b"2"
        )
    finally:
        fsspec.filesystem("memory").rm("/looked", recursive=True)


def all_but_one_are_refused(uri: str) -> None:
    """Several read the same version, and write each its own."""
    assert read_versioned(uri) is None
    assert put_if_unchanged(uri, b"first", None)
    assert not put_if_unchanged(uri, b"too late", None)
    before = read_versioned(uri)
    assert before is not None and before.data == b"first"
    with ThreadPoolExecutor(RIVALS) as pool:
        won = list(
            pool.map(lambda i: put_if_unchanged(uri, b"%d" % i, before.version), range(RIVALS))
        )
    assert won.count(True) == 1
    now = read_versioned(uri)
    assert now is not None and now.data == b"%d" % won.index(True)
    assert now.version != before.version
    assert not put_if_unchanged(uri, b"first again", before.version)
    remove_if_unchanged(uri, before.version)
    assert read_versioned(uri) == now
    remove_if_unchanged(uri, now.version)
    assert read_versioned(uri) is None
    assert not put_if_unchanged(uri, b"of what was removed", now.version)
    assert read_versioned(uri) is None


@pytest.mark.parametrize("durable", [False, True])
def test_one_of_many_replaces(durable: bool, tmp_path: Path) -> None:
    all_but_one_are_refused(str(tmp_path / "new" / "current.json"))
    path = tmp_path / "durable.json"
    assert put_if_unchanged(str(path), b"1", None, durable=durable)
    assert not put_if_unchanged(str(path), b"2", None, durable=durable)
    found = read_versioned(str(path))
    assert found and put_if_unchanged(str(path), b"3", found.version, durable=durable)
    assert path.read_bytes() == b"3" and [p.name for p in tmp_path.glob("*.json")] == [path.name]


def test_one_of_many_replaces_in_memory() -> None:
    all_but_one_are_refused("memory://unchanged/current.json")  # which it removes in the end
    assert not fsspec.filesystem("memory").find("/unchanged")


@pytest.mark.s3
def test_one_of_many_replaces_on_s3(bucket: dict[str, bytes]) -> None:
    all_but_one_are_refused("s3://bucket/out/current.json")
