"""Why something failed, in one line with what to do: of stores, of this machine, of an engine."""

from __future__ import annotations

import contextlib
import errno
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from glossator.model import store
from glossator.model.bundle import DEFAULT
from glossator.model.errors import GlossatorError, UsageError
from glossator.pipeline.errors import StoreError

Place = Literal["input", "model", "output", "gates"]
_PARAMETERS: dict[Place, str] = {
    "input": "inputs",
    "model": "model",
    "output": "output",
    "gates": "gates",
}
_T = TypeVar("_T")

_STORES = {
    "adlfs",
    "aiobotocore",
    "aiohttp",
    "azure",
    "botocore",
    "fsspec",
    "gcsfs",
    "google",
    "requests",
    "s3fs",
    "urllib3",
}
"""Packages whose errors tell of a store, beside `OSError`."""

_CREDENTIALS = "no complete credentials were found: set them where the client of the store looks"
_ACCESS = "access denied: check the credentials and permissions"
_DOWN = "the store does not answer: is its endpoint right, and is it up?"
_BY_NAME = {
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "CredentialRetrievalError": _CREDENTIALS,
    "DefaultCredentialsError": _CREDENTIALS,
    "ProfileNotFound": _CREDENTIALS,
    "RefreshError": _ACCESS,
    "ClientAuthenticationError": _ACCESS,
    "PermissionError": _ACCESS,
    "HTTPClientError": _DOWN,
    "ConnectionError": _DOWN,
    "TimeoutError": _DOWN,
    "ClientConnectionError": _DOWN,
    "EndpointConnectionError": _DOWN,
    "ServiceRequestError": _DOWN,
}
"""What is wrong, by the name of an exception's class or of a parent of it."""

_BY_NUMBER = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the quota of the disk is used up: make room",
    errno.EROFS: "it can only be read: name another",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.ECONNREFUSED: _DOWN,
}

NO_BUCKET = "there is no such bucket: create it, or check its spelling"
_NO_BUCKET = re.compile(r"NoSuchBucket|bucket does not exist|(?:^|/)b/[^/]+/o$")
"""How clients say it; that of Google Cloud Storage gives the address of the bucket's objects."""
_NOTHING = "nothing was published"
_SAID = (_NOTHING, "is published, but", "what is published is")
"""In errors that say themselves what was published."""
_RETRYING_HELPS = {_DOWN}
_NEW_RUN = ("SourceChangedError", "UsageError", "ReconcileError")
"""Errors after which the same run can't go on: what is run next plans anew, or will fail alike."""


@contextmanager
def reaching(place: Place, uri: str, *, begun: bool = True) -> Iterator[None]:
    """Makes one line of what a store raises while the context is open.

    Args:
        place: what of the job the store holds.
        uri: what is read or written there.
        begun: whether the work has begun. Before it has, what no other try would change is an
            invalid request.

    Raises:
        StoreError: the store failed.
        UsageError: before the work has begun: the store can't be used as it was named.
    """
    try:
        yield
    except Exception as raised:
        error: BaseException | None = raised
        if isinstance(raised, GlossatorError):  # of a model, whatever its store raised
            error = raised.__cause__ if place == "model" else None
        if error is None or not _is_of_store(error):
            raise
        why = _why(error, uri)
        if error is not raised and why is None:
            raise
        said = _text(error)
        line = f"{uri}: {why} ({said})" if why else f"{uri}: {said}"
        if begun or why is None or why in _RETRYING_HELPS:
            raise StoreError(f"{place} {line}") from raised
        raise UsageError(line, parameter=_PARAMETERS[place]) from raised


def each(place: Place, uri: str, items: Iterable[_T]) -> Iterator[_T]:
    """The items, which come from a store; errors of it as `reaching` gives them."""
    with reaching(place, uri):
        yield from items


def _is_of_store(error: BaseException) -> bool:
    modules = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & _STORES)


def _why(error: BaseException, uri: str) -> str | None:
    """What is wrong, where that is known."""
    remote = uri != DEFAULT and not _local(uri)
    number = getattr(error, "errno", None)
    if "No usable temporary directory" in str(error):
        return "no folder for temporary files can be written to: make room, or set TMPDIR"
    if remote and number in (errno.ENOSPC, errno.EDQUOT):
        folder = tempfile.gettempdir()  # where what is sent to a remote store is written first
        return f"the folder for temporary files, {folder}, is full: make room, or set TMPDIR"
    if is_no_bucket(error):
        return NO_BUCKET
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_NAME:
            return _BY_NAME[kind.__name__]
    return _BY_NUMBER.get(number) if number is not None else None


def is_no_bucket(error: BaseException) -> bool:
    """Whether an object store says that it has not even the bucket."""
    return _NO_BUCKET.search(str(error)) is not None


def _local(uri: str) -> bool:
    with contextlib.suppress(GlossatorError):
        return store.is_local(store.open_store(uri)[0])
    return False


def _text(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def cause(error: BaseException) -> str:
    """The innermost reason, in a line: Beam wraps what a worker raised in its own words.

    It says whether running the job again resumes it.
    """
    while error.__cause__ is not None and not isinstance(error, GlossatorError):
        error = error.__cause__
    kind, said = _innermost(error)
    if any(words in said for words in _SAID):
        return said
    if kind in _NEW_RUN:
        return f"{said}; {_NOTHING}"
    return f"{with_remedy(kind, said)}; {_NOTHING}, run it again to resume"


def with_remedy(kind: str, said: str) -> str:
    """What an error says, and what to do where the machine gives a process too little.

    Args:
        kind: the name of its class.
        said: its text.
    """
    if kind == "MemoryError" or "can't allocate memory" in said or "bad_alloc" in said:
        return f"out of memory ({said}): take fewer workers, or give it more"
    if "can't start new thread" in said:
        return f"{said}: the memory or the number of threads is limited (ulimit -v, -u)"
    return said


def _innermost(error: BaseException) -> tuple[str, str]:
    """The name of the class of what was raised first, and what it says."""
    text = re.sub(r" \[while running '[^']*'\]\s*$", "", str(error))
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and "Traceback" in text:  # the worker's, as text
        said = lines[-1]
    else:
        kind = type(error)
        said = f"{kind.__module__}.{kind.__name__}: {' '.join(lines)}".removesuffix(": ")
    # Beam may have put what was raised into an error of its own
    said = re.sub(r"^(builtins\.)?RuntimeError: (?=[\w.]*(Error|Exception)(: |$))", "", said)
    match = re.fullmatch(r"([\w.]+)(?:: (.*))?", said)
    if match is None:
        return "", said
    module, _, name = match[1].rpartition(".")
    text = match[2] or ""
    if module.startswith("glossator."):  # our own errors say all in words
        return name, text
    return name, f"{name}: {text}" if text else name
