"""URIs: which are local, what they name, and what of them may be shown."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import fsspec
import pytest

from glossator.model.errors import GlossatorError, UsageError
from glossator.model.store import (
    absolute_uri,
    is_local,
    open_store,
    redacted,
    redacted_text,
    uri_below,
)


@pytest.mark.parametrize(
    "name", ["std::string.parquet", "zip::a", "s3::x/y", "a::b::c", "memory::", "x?y=1", "a b"]
)
def test_name_without_a_protocol_is_local(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"here")
    for uri in (name, f"./{name}", str(path), f"file://{path}", f"local://{path}"):
        fs, found = open_store(uri)
        assert is_local(fs) and found == absolute_uri(uri) == str(path)
        assert fs.cat_file(found) == b"here"


def test_absolute_path_is_local_whatever_is_in_it(tmp_path: Path) -> None:
    path = f"{tmp_path}/s3://bucket/zip::memory://x"
    assert open_store(path)[1] == absolute_uri(path) == path


def test_unknown_protocol() -> None:
    with pytest.raises(UsageError, match="foo://x: Protocol not known"):
        open_store("foo://x")


def test_uri_below_leads_back_to_the_file(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/store/in/std::string.parquet", b"found")
    memory.pipe_file("/store/plain/std.parquet", b"found")
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("in/std.parquet", b"found")
    try:
        for given in (
            "memory://store/in",
            "simplecache::memory://store/plain",
            f"zip://in::{archive}",
            f"zip://::file://{archive}",
        ):
            fs, folder = open_store(given)
            (path,) = fs.find(folder)
            again, place = open_store(uri_below(given, fs, path))
            assert again.cat_file(place) == b"found", given
    finally:
        memory.rm("/store", recursive=True)


@pytest.mark.parametrize(
    ("given", "path", "expected"),
    [
        ("s3://bucket/in", "bucket/in/a", "s3://bucket/in/a"),
        ("hdfs://name:9000/in", "/in/a", "hdfs://name:9000/in/a"),
        ("webhdfs://name:1/in", "/in/a", "webhdfs://name:1/in/a"),
        ("github://org:repo@main/in", "in/a", "github://org:repo@main/in/a"),
        ("https://host/in/", "https://host/in/a", "https://host/in/a"),
    ],
)
def test_uri_below_keeps_the_host(given: str, path: str, expected: str) -> None:
    for package in {"s3": ("s3fs",), "https": ("aiohttp", "requests")}.get(given.split(":")[0], ()):
        pytest.importorskip(package)
    kind = fsspec.get_filesystem_class(given.partition("://")[0])
    assert uri_below(given, object.__new__(kind), path) == expected


SECRETS = [
    ("ftp://me:word@host/a", "ftp://me:REDACTED@host/a"),
    ("ftp://me:wo@rd@host/a", "ftp://me:REDACTED@host/a"),
    ("ftp://me:wo/rd@host/a", "ftp://me:REDACTED@host/a"),
    ("ftp://me:wo?rd@host/a", "ftp://me:REDACTED@host/a"),
    ("ftp://:word@host/a", "ftp://:REDACTED@host/a"),
    ("sftp://me@host:22/a@b", "sftp://me@host:22/a@b"),
    ("https://token@host/a", "https://REDACTED@host/a"),
    ("https://host:8080/a@b", "https://host:8080/a@b"),
    ("s3://AKIAABCDEFGHIJKLMNOP:a/b/c@bucket/x", "s3://REDACTED:REDACTED@bucket/x"),
    ("abfs://container@account.example/a", "abfs://container@account.example/a"),
    (
        "https://host/a?X-Amz-Credential=AKIA/1&X-Amz-Date=2&X-Amz-Signature=3&v=4",
        "https://host/a?X-Amz-Credential=REDACTED&X-Amz-Date=REDACTED&X-Amz-Signature=REDACTED&v=4",
    ),
    (
        "https://host/a?AWSAccessKeyId=A&Expires=1&Signature=b%2Bc%3D",
        "https://host/a?AWSAccessKeyId=REDACTED&Expires=REDACTED&Signature=REDACTED",
    ),
    (
        "https://a.blob.example/c?sv=1&st=2&se=3&sr=b&sp=r&sig=4&page=5",
        "https://a.blob.example/c?sv=REDACTED&st=REDACTED&se=REDACTED&sr=REDACTED&sp=REDACTED"
        "&sig=REDACTED&page=5",
    ),
    ("https://host/a?sv=1&se=2&page=3", "https://host/a?sv=1&se=2&page=3"),
    ("https://host/a?page=1#access_token=2", "https://host/a?page=1#access_token=REDACTED"),
    ("https://host/a?api-key=1", "https://host/a?api-key=REDACTED"),
    ("https://host/a?TOKEN=x::y z", "https://host/a?TOKEN=REDACTED"),
    ("https://host/a?x=eyJhbGciOiJI.eyJzdWIi.c2ln", "https://host/a?x=REDACTED"),
    ("s3://bucket/a?versionId=3sL4kqtJlcpXroDTDmJ", "s3://bucket/a?versionId=3sL4kqtJlcpXroDTDmJ"),
    (
        "zip://a.parquet::https://me:word@host/z.zip?sig=1",
        "zip://a.parquet::https://me:REDACTED@host/z.zip?sig=REDACTED",
    ),
    ("simplecache::ftp://me:word@host/a", "simplecache::ftp://me:REDACTED@host/a"),
    ("/in/a?token=b", "/in/a?token=b"),
    ("in/me:word@host", "in/me:word@host"),
]


@pytest.mark.parametrize(("uri", "expected"), SECRETS)
def test_redacted(uri: str, expected: str) -> None:
    assert redacted(uri) == expected
    assert redacted(expected) == expected


@pytest.mark.parametrize(("uri", "expected"), [s for s in SECRETS if " " not in s[0]])
def test_redacted_in_a_text(uri: str, expected: str) -> None:
    if "://" in uri:
        assert redacted_text(f"can't open {uri}: no\n") == f"can't open {expected}: no\n"
        assert redacted_text(f"url='{uri}', ({uri}).") == f"url='{expected}', ({expected})."


def test_text_of_other_kinds_is_left_alone() -> None:
    for text in ("write to me@example.org: thanks", "a = b; key = c", "see https://host:1: no"):
        assert redacted_text(text) == text
    assert redacted_text("no url: /a?sig=b (again)") == "no url: /a?sig=REDACTED (again)"


def test_errors_hide_secrets_and_survive_pickling() -> None:
    for error in (GlossatorError("ftp://a:b@c: no"), UsageError("ftp://a:b@c: no")):
        assert str(error) == str(pickle.loads(pickle.dumps(error))) == "ftp://a:REDACTED@c: no"
