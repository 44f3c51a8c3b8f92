"""Small files that several writers share: each is written only if it is still as it was read.

What the stores themselves promise (If-Match on S3 and Azure, generations on Google Cloud Storage,
the kernel's locks on this machine) is all that is built on; no clock is.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import fsspec

from glossator.model.store import is_local, open_store, protocols, put_bytes, read_bytes

_S3 = {"s3", "s3a"}
_GOOGLE = {"gs", "gcs"}
_AZURE = {"abfs", "abfss", "az"}
_CONDITIONAL = {"file", "memory"} | _S3 | _GOOGLE | _AZURE
_LOOKS = 10
"""So often a file is read until it did not change meanwhile."""
_in_memory = threading.Lock()


@dataclass(frozen=True)
class Versioned:
    """What a file held, and by what the store tells it from what it held before and after."""

    data: bytes
    version: str


def has_conditional_writes(fs: Any) -> bool:
    """Whether of several writers one alone is let through on this fsspec file system."""
    return bool(_CONDITIONAL.intersection(protocols(fs)))


def read_versioned(uri: str) -> Versioned | None:
    """A small file's content with its version; None if there is none.

    Raises:
        UsageError: of this machine, it is no plain file.
        OSError: the store failed.
    """
    fs, path = open_store(uri)
    known = set(protocols(fs))
    try:
        if known & _S3:
            return _read_s3(fs, path)
        if known & _GOOGLE:
            return _read_google(fs, path)
        if known & _AZURE:
            return _read_twice(fs, path, "etag")
    except FileNotFoundError:
        return None
    data = read_bytes(fs, path)
    return None if data is None else Versioned(data, _digest(data))


def put_if_unchanged(uri: str, data: bytes, version: str | None, *, durable: bool = False) -> bool:
    """Write a small file at once, if its version is still this one; whether it was written.

    Args:
        uri: of the file.
        data: all of it; what other writers write has to differ.
        version: of `read_versioned`; None if there was no file.
        durable: on this machine's own file systems, it is there even after the power fails.
    """
    if version is None and not durable:
        return put_if_absent(uri, data)
    fs, path = open_store(uri)
    known = set(protocols(fs))
    if is_local(fs):
        return _put_local(fs, path, data, version, durable)
    if version is None:
        return put_if_absent(uri, data)
    for names, put in ((_S3, _put_s3), (_GOOGLE, _put_google), (_AZURE, _put_azure)):
        if known & names:
            try:
                return _let_through(uri, data, partial(put, fs, path, data, version))
            except FileNotFoundError:  # removed since it was read
                return False
    with _in_memory:
        found = read_bytes(fs, path)
        if found is None or _digest(found) != version:
            return False
        if "memory" in known:
            fs.pipe_file(path, data)  # at once: `put_bytes` would show it empty first
        else:
            put_bytes(fs, path, data)
    return True


def put_if_absent(uri: str, data: bytes) -> bool:
    """Write a small file at once, unless there is one; whether it was written.

    Of several that try at the same time exactly one succeeds, on this machine's own file systems
    and on S3, Google Cloud Storage, Azure and fsspec's memory store (`has_conditional_writes`).
    Elsewhere it is looked whether there is one, and then written: two may succeed.
    """
    fs, target = open_store(uri)
    if is_local(fs):
        return _link_if_absent(fs, target, data)
    if not has_conditional_writes(fs):
        if fs.exists(target):
            return False
        put_bytes(fs, target, data)
        return True
    return _let_through(uri, data, lambda: fs.pipe_file(target, data, mode="create"))


def remove_if_unchanged(uri: str, version: str) -> None:
    """Remove a file that still has this version; stores can't do both in one step."""
    found = read_versioned(uri)
    if found is not None and found.version == version:
        fs, path = open_store(uri)
        with suppress(FileNotFoundError):
            fs.rm_file(path)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _let_through(uri: str, data: bytes, write: Callable[[], object]) -> bool:
    try:
        write()
    except FileExistsError:
        return _was_written(uri, data)
    except Exception as error:
        if _precondition_failed(error):
            return _was_written(uri, data)
        raise
    return True


def _was_written(uri: str, data: bytes) -> bool:
    """Whether it was us: a client that has lost the store's answer tries again, and is refused."""
    found = read_versioned(uri)
    return found is not None and found.data == data


def _precondition_failed(error: BaseException) -> bool:
    """Whether the store said so; each client has words of its own for it."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None) or {}
        said = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        status = getattr(one, "code", None) or getattr(one, "status_code", None)
        if said in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
            return True
        if str(status) in ("412", "409") or type(one).__name__ == "ResourceModifiedError":
            return True
    return False


def _read_s3(fs: Any, path: str) -> Versioned:
    bucket, key, _ = fs.split_path(path)

    async def get() -> Versioned | str:
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key)
        try:
            async with response["Body"] as body:
                return Versioned(await body.read(), response["ETag"])
        except Exception as error:  # an answer that broke off, after which nobody else tries again
            return f"{type(error).__name__}: {error}"

    for _ in range(_LOOKS):
        found: Versioned | str = fsspec.asyn.sync(fs.loop, get)
        if isinstance(found, Versioned):
            return found
    raise OSError(errno.EIO, f"the store's answer broke off ({found})", path)


def _put_s3(fs: Any, path: str, data: bytes, version: str) -> None:
    bucket, key, _ = fs.split_path(path)
    fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, IfMatch=version)
    fs.invalidate_cache(path)


def _read_twice(fs: Any, path: str, field: str) -> Versioned:
    """Where content and version come by two requests: of a moment at which both hold."""
    for _ in range(_LOOKS):
        version = _version(fs, path, field)
        data: bytes = fs.cat_file(path)
        if _version(fs, path, field) == version:
            return Versioned(data, version)
    raise OSError(errno.EBUSY, "changes all the time", path)


def _version(fs: Any, path: str, field: str) -> str:
    fs.invalidate_cache()
    return str(fs.info(path)[field])


def _read_google(fs: Any, path: str) -> Versioned:
    headers, data = fs.call("GET", fs.url(path))
    generation = headers.get("X-Goog-Generation")
    if generation is None:  # not of every server that stands in for Google's
        return _read_twice(fs, path, "generation")
    return Versioned(data, str(generation))


def _put_google(fs: Any, path: str, data: bytes, version: str) -> None:
    """As gcsfs writes small files, which can make only the condition that there is none."""
    bucket, key, _ = fs.split_path(path)
    about = b"Content-Type: application/json; charset=UTF-8\n\n"
    about += json.dumps({"name": key}).encode()
    body = b"Content-Type: application/octet-stream\n\n" + data
    fs.call(
        "POST",
        f"{fs._location}/upload/storage/v1/b/{quote(bucket)}/o",
        uploadType="multipart",
        ifGenerationMatch=version,
        headers={"Content-Type": 'multipart/related; boundary="==0=="'},
        data=b"--==0==\n" + about + b"\n--==0==\n" + body + b"\n--==0==--",
        json_out=True,
    )
    fs.invalidate_cache(path)


def _put_azure(fs: Any, path: str, data: bytes, version: str) -> None:
    from azure.core import MatchConditions

    fs.pipe_file(path, data, etag=version, match_condition=MatchConditions.IfNotModified)


def _put_local(fs: Any, path: str, data: bytes, version: str | None, durable: bool) -> bool:
    """Compares and replaces under the kernel's lock on the folder, which no file is left of."""
    import fcntl  # not everywhere that this module can be imported

    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        found = read_bytes(fs, path)
        if (None if found is None else _digest(found)) != version:
            return False
        put_bytes(fs, path, data, durable=durable)
    finally:
        os.close(handle)
    return True


def _link_if_absent(fs: Any, target: str, data: bytes) -> bool:
    """A link to a whole file appears at once; where there are none, one may see it unfinished."""
    folder = Path(target).parent
    folder.mkdir(parents=True, exist_ok=True)
    temp = folder / f".{PurePosixPath(target).name}.{uuid.uuid4().hex}.tmp"
    try:
        temp.write_bytes(data)
        os.link(temp, target, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        return _create_if_absent(target, data)
    finally:
        temp.unlink(missing_ok=True)
    return True


def _create_if_absent(target: str, data: bytes) -> bool:
    try:
        with Path(target).open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True
