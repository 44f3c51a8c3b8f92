"""Files by URI: where they are, how they are listed, and how they appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from inspect import signature
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem, make_path_posix

from glossator.model import temporary
from glossator.model.errors import UsageError
from glossator.model.redaction import redacted as redacted
from glossator.model.redaction import redacted_text as redacted_text

_REMOTE = re.compile(r"(?!(?:file|local)://)[A-Za-z][\w+.-]*(?:://|::.*://)")
"""What begins so is a URI, perhaps one of a chain (`zip://a.parquet::s3://...`)."""
_LOCAL = re.compile(r"(?:file|local)://")
_RENAMING = {"hdfs", "webhdfs"}
"""Remote stores that show a file while it is written, and rename atomically."""
_S3 = {"s3", "s3a"}
_GOOGLE = {"gs", "gcs"}
_OBJECTS = {*_S3, *_GOOGLE, "abfs", "abfss", "az"}
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{32}\.tmp")
_THREADS = 16
_PIECE_BYTES = 1 << 20
_WAIT = "requests_timeout"
_CONNECT_SECS, _READ_SECS = 10.0, 30.0
"""For a connection to Google's store, and for the next bytes."""
_S3_TRIES = 2
"""s3fs tries five times to read, and each time five times to ask, beside botocore's own five tries:
of a store that is silent it would be half an hour until a request is given up."""


def open_store(uri: str) -> tuple[Any, str]:
    """The fsspec file system that a URI names, and the path there.

    Without `://`, and with `file://`, it is a path of this machine, whatever characters it has.

    Raises:
        UsageError: no file system is known by that protocol, or its package is not installed.
    """
    if not _REMOTE.match(uri):
        return LocalFileSystem(), _local_path(uri)
    try:
        if "::" in uri and not _is_chain(uri):  # in a name: fsspec would take it for a chain
            kind = fsspec.get_filesystem_class(uri.partition("://")[0])
            return kind(**kind._get_kwargs_from_urls(uri)), kind._strip_protocol(uri)
        fs, path = fsspec.core.url_to_fs(uri, **_patience(uri))
    except (ValueError, ImportError) as error:
        raise UsageError(f"{uri}: {error}") from error
    if _S3.intersection(protocols(fs)):
        fs.retries = _S3_TRIES
    return fs, path


def _patience(uri: str) -> dict[str, Any]:
    """How long gcsfs waits, by protocol, where the user has not said so in fsspec's configuration.

    By itself it gives up a request that takes five minutes, however fast its bytes come, and waits
    as long for a store that is silent. s3fs waits 15 seconds for the next bytes.
    """
    names = [name for name in _GOOGLE if re.search(rf"(?:^|::){name}://", uri)]
    if not names or any(_WAIT in fsspec.config.conf.get(name, {}) for name in _GOOGLE):
        return {}
    try:
        from aiohttp import ClientTimeout
    except ImportError:  # nor is gcsfs there, as will be said
        return {}
    wait = ClientTimeout(total=None, sock_connect=_CONNECT_SECS, sock_read=_READ_SECS)
    return {name: {_WAIT: wait} for name in names}


def is_local(fs: Any) -> bool:
    """Whether paths of this fsspec file system are paths of this machine."""
    return "file" in fs.protocol if isinstance(fs.protocol, tuple) else "file" in protocols(fs)


def absolute_uri(uri: str) -> str:
    """A local path made absolute: workers may stand in another folder. Other URIs as they are."""
    return uri if _REMOTE.match(uri) else _local_path(uri)


def uri_below(given: str, fs: Any, path: str) -> str:
    """The URI of a path that was found by listing what a URI names.

    Args:
        given: the URI that was listed.
        fs: its file system.
        path: of a file there, as the file system lists it.
    """
    if is_local(fs):
        return path
    if _is_chain(given):
        first, _, rest = given.partition("::")
        if "://" in first:  # an archive's member
            return f"{first.partition('://')[0]}://{path}::{rest}"
        return f"{first}::{uri_below(rest, open_store(rest)[0], path)}"
    plain: str = fs.unstrip_protocol(path)
    if not type(fs)._get_kwargs_from_urls(given):
        return plain
    # the URI says more than a path: a host, an account
    scheme, _, rest = given.partition("://")
    authority = rest.partition("/")[0]
    for tail in (path.lstrip("/"), path.lstrip("/").partition("/")[2]):
        uri = f"{scheme}://{authority}/{tail}"
        if type(fs)._strip_protocol(uri) == path:
            return uri
    return plain


def _local_path(uri: str) -> str:
    path: str = make_path_posix(_LOCAL.sub("", uri, count=1))
    return path.rstrip("/") or "/"


def _is_chain(uri: str) -> bool:
    first, chained, rest = uri.partition("::")
    return bool(chained) and ("://" not in first or "://" in rest or Path(rest).is_absolute())


def protocols(fs: Any) -> tuple[str, ...]:
    """The names that this fsspec file system has in URIs."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


@contextmanager
def atomic_write(fs: Any, target: str) -> Iterator[Path]:
    """A local file to write, which becomes `target` once it is whole, and vanishes on an error.

    What computes may fail half-way, and another attempt at the same may be done already: a
    remote store only ever gets whole files.
    """
    folder, name = PurePosixPath(target).parent, PurePosixPath(target).name
    mark = f"{uuid.uuid4().hex}.tmp"
    if is_local(fs):
        Path(folder).mkdir(parents=True, exist_ok=True)
    temp = Path(folder if is_local(fs) else temporary.folder(), f".{name}.{mark}")
    try:
        yield temp
        if is_local(fs):
            temp.replace(target)
        elif _renames(fs):
            fs.put_file(str(temp), f"{folder}/.{name}.{mark}")
            move(fs, f"{folder}/.{name}.{mark}", target)
        else:
            fs.put_file(str(temp), target)
    finally:
        temp.unlink(missing_ok=True)


def temporary_of(name: str) -> str | None:
    """What a temporary file of `atomic_write` was to become; None if its name is no such."""
    found = _TEMPORARY.fullmatch(name)
    return found[1] if found else None


def put_bytes(fs: Any, target: str, data: bytes, *, durable: bool = False) -> None:
    """Write a small file at once.

    Args:
        fs: of fsspec.
        target: the path in it.
        data: all of the file.
        durable: it is there even after the power fails; object stores see to that anyway.
    """
    with atomic_write(fs, target) as temp:
        temp.write_bytes(data)
        if durable and is_local(fs):
            sync(fs, [str(temp)])
    if durable:
        sync(fs, [str(PurePosixPath(target).parent)])


def read_bytes(fs: Any, path: str) -> bytes | None:
    """A small file's content; None if there is none.

    Of a local path it follows no link, and waits for no pipe.

    Raises:
        UsageError: it is a folder, a link, or otherwise no plain file.
        OSError: the store failed.
    """
    try:
        if not is_local(fs):
            return fetch(fs, path)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.EISDIR) and Path(path).is_symlink():
            raise UsageError(f"{path}: is a symbolic link: put a plain file there") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError(f"{path}: is not a plain file: move it away")
    with os.fdopen(handle, "rb") as file:
        return file.read()


def fetch(fs: Any, path: str) -> bytes:
    """All of a remote file, in one request where its client can.

    Raises:
        FileNotFoundError: there is none.
        OSError: the store failed.
    """
    options = {}
    if _S3.intersection(protocols(fs)) and "max_concurrency" in signature(fs._cat_file).parameters:
        options["max_concurrency"] = 1  # else it asks for the size before, to fetch pieces at once
    content: bytes = fs.cat_file(path, **options)
    return content


def fetch_range(fs: Any, path: str, start: int, stop: int) -> bytes:
    """The bytes of a remote file from `start` to before `stop`, fewer where it ends before."""
    content: bytes = fs.cat_file(path, start=start, end=stop) if start < stop else b""
    return content


def has_ranges(fs: Any) -> bool:
    """Whether `fetch_range` is one request on this fsspec file system, for that and no more."""
    return bool(_OBJECTS.intersection(protocols(fs)))


def sync(fs: Any, paths: Iterable[str]) -> None:
    """Wait until local files, and the names in local folders, are on the disk; else do nothing."""
    if is_local(fs):
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(_sync, paths))


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # not all file systems can, of a folder
            raise
    finally:
        os.close(handle)


def move(fs: Any, source: str, target: str) -> None:
    """Put a file in another's place; object stores, which can't rename, keep the source too."""
    if is_local(fs):
        Path(target).parent.mkdir(exist_ok=True)
        os.replace(source, target)  # noqa: PTH105 - both are strings of fsspec
    elif _renames(fs):
        if fs.exists(target):  # HDFS renames onto nothing
            fs.rm_file(target)
        fs.mv(source, target)
    else:
        fs.cp_file(source, target)


def copy(fs: Any, source: str, target: str) -> None:
    """Put a file that is never changed into another place too; it appears whole.

    On this machine by a second name for the same bytes, where the disk has that.
    """
    if not is_local(fs):
        fs.cp_file(source, target)
        return
    with atomic_write(fs, target) as temp:
        try:
            os.link(source, temp, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV):
                raise
            shutil.copyfile(source, temp)


def sha256(fs: Any, path: str) -> str:
    """The digest of a file's bytes, in hexadecimal digits; read in pieces."""
    digest = hashlib.sha256()
    with fs.open(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def file_sizes(fs: Any, folder: str) -> dict[str, int]:
    """The files directly in a folder, by name; none if there is no such folder."""
    fs.invalidate_cache()
    try:
        infos = fs.ls(folder, detail=True)
    except FileNotFoundError:
        return {}
    return {
        PurePosixPath(info["name"]).name: info["size"] for info in infos if info["type"] == "file"
    }


def _renames(fs: Any) -> bool:
    return bool(_RENAMING.intersection(protocols(fs)))
