"""Archives read without being run or unpacked: nothing of them touches the disk."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from glossator.model.errors import UsageError


def read_members(
    archive: Path | bytes, wanted: Callable[[str], bool] | Iterable[str]
) -> dict[str, bytes]:
    """The contents of an archive's files, in the order of their names; nothing touches the disk.

    Args:
        archive: a tar file (of any compression) or a zip file (a wheel), or its bytes.
        wanted: the exact names, all of which must be there, or a test of a name.

    Raises:
        UsageError: a name is not in the archive.
    """
    names = None if callable(wanted) else frozenset(wanted)
    chosen = wanted if callable(wanted) else frozenset(wanted).__contains__
    origin = archive.name if isinstance(archive, Path) else "the archive within"
    stream: IO[bytes] = archive.open("rb") if isinstance(archive, Path) else io.BytesIO(archive)
    with stream:
        found = dict(sorted(_members(stream, chosen)))
    if missing := sorted((names or frozenset()) - set(found)):
        raise UsageError(
            f"{origin} holds no {missing[0]!r}: it is not the file this recipe expects"
        )
    return found


def _members(stream: IO[bytes], chosen: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as pack:
            for name in pack.namelist():
                if chosen(name):
                    yield name, pack.read(name)
        return
    stream.seek(0)
    with tarfile.open(fileobj=stream) as pack:
        for member in pack:
            # a link could name a file outside; only what the archive itself holds is read
            content = pack.extractfile(member) if member.isreg() and chosen(member.name) else None
            if content is not None:
                yield member.name, content.read()
