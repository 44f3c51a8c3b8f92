"""Writing where nothing is, reading without following links, and what killed writers leave."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from glossator.model.errors import UsageError
from glossator.model.store import (
    atomic_write,
    has_conditional_writes,
    open_store,
    put_bytes,
    put_if_absent,
    read_bytes,
    temporary_of,
)

RIVALS = 16


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
            if self.headers.get("If-None-Match") == "*" and path in self.stored:
                condition = "<Condition>If-None-Match</Condition>" if self.names_condition else ""
                error = f"<Error><Code>PreconditionFailed</Code>{condition}</Error>".encode()
                return self.answer(412, error)
            self.stored[path] = data
        return self.answer(200, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "is a symbolic link"),
        (lambda path: path.symlink_to("/nowhere"), "is a symbolic link"),
        (lambda path: path.mkdir(), "is not a plain file"),
        (os.mkfifo, "is not a plain file"),  # whose reader would wait for ever
    ],
)
def test_only_plain_files_are_read(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "x")
    with pytest.raises(UsageError, match=message):
        read_bytes(fsspec.filesystem("file"), str(tmp_path / "x"))


def test_read_bytes(tmp_path: Path) -> None:
    here, memory = fsspec.filesystem("file"), fsspec.filesystem("memory")
    put_bytes(here, str(tmp_path / "x"), b"content", durable=True)
    assert read_bytes(here, str(tmp_path / "x")) == b"content"
    assert read_bytes(here, str(tmp_path / "none")) is None
    put_bytes(memory, "/read/x", b"content", durable=True)
    assert read_bytes(memory, "/read/x") == b"content" and read_bytes(memory, "/read/y") is None
    memory.rm("/read", recursive=True)


def test_an_unfinished_file_says_what_it_was_to_become(tmp_path: Path) -> None:
    fs = fsspec.filesystem("file")
    with atomic_write(fs, str(tmp_path / "part-1.parquet")) as temp:
        temp.touch()
        assert temporary_of(temp.name) == "part-1.parquet"
    assert temporary_of("part-1.parquet") is None
    assert temporary_of(".hidden.tmp") is None
