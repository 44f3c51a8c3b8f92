"""How a finished run becomes the output: all of it or nothing, whenever it is killed.

Of an output folder OUT, `OUT/_staging/<run id>/` holds a run until it is whole. Publishing then
writes a journal, `OUT/_publishing.json`, and from that moment only goes forward: `recover`
finishes it as often as it is killed. Before the journal, what was published is not touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from glossator.model.errors import UsageError
from glossator.model.store import file_sizes, is_local, move, open_store, put_bytes
from glossator.pipeline.errors import ReconcileError
from glossator.pipeline.manifest import MANIFEST, Manifest, parse
from glossator.pipeline.staging import RECORDS, REJECTS

STAGING = "_staging"
JOURNAL = "_publishing.json"
SUCCESS = "_SUCCESS"
_LOCK = ".lock"
_OURS = re.compile(r"part-\d{5,}-[0-9a-f]{12}\.parquet|\..+\.[0-9a-f]{32}\.tmp")
"""Parts, and what a killed writer left: other files in an output are not ours to remove."""
_THREADS = 16


def check_output(out: str) -> None:
    """Refuse an output folder that holds something else than our output.

    Raises:
        UsageError: it does, or it is a file.
    """
    fs, root = open_store(out)
    fs.invalidate_cache()
    try:
        info = fs.info(root)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise UsageError(f"{out}: lies below a file: name another --output") from error
    if info["type"] != "directory":
        raise UsageError(f"{out}: is a file: name a folder for --output")
    manifest = _read(fs, f"{root}/{MANIFEST}")
    if manifest is not None:
        parse(manifest, f"{out}/{MANIFEST}")
        return
    paths = (PurePosixPath(name) for name in fs.ls(root, detail=False))
    # an object store may list an empty object that stands for the folder itself
    names = {path.name for path in paths if path != PurePosixPath(root)}
    if names and not names & {STAGING, JOURNAL}:
        raise UsageError(
            f"{out}: holds files that glossator did not write ({min(names)}, ...):"
            " name an empty or new folder for --output"
        )


def staging(out: str, run_id: str) -> str:
    """The URI of a run's staging folder."""
    return f"{out.rstrip('/')}/{STAGING}/{run_id}"


def published(out: str) -> Manifest | None:
    """The manifest of what a reader finds now; None if nothing is published."""
    fs, root = open_store(out)
    if _read(fs, f"{root}/{SUCCESS}") is None:
        return None
    text = _read(fs, f"{root}/{MANIFEST}")
    return None if text is None else parse(text, f"{out}/{MANIFEST}")


def state(out: str, run_id: str) -> Literal["published", "resumable", "new"]:
    """What there is of a run; call `recover` before."""
    fs, root = open_store(out)
    manifest = published(out)
    if manifest and manifest.run_id == run_id and not _missing(fs, root, manifest):
        return "published"
    records = file_sizes(fs, f"{root}/{STAGING}/{run_id}/{RECORDS}")
    return "resumable" if records else "new"


def discard(out: str, run_id: str) -> None:
    """Remove what an attempt that came late left in the staging of a run that is published."""
    fs, root = open_store(out)
    fs.invalidate_cache()
    with contextlib.suppress(FileNotFoundError):
        fs.rm(f"{root}/{STAGING}/{run_id}", recursive=True)


def publish(out: str, run_id: str, manifest: Manifest) -> None:
    """Make a run that is whole in staging the output, in place of what was published before.

    Raises:
        ReconcileError: a file of the manifest is not whole in staging; nothing was touched.
    """
    if recover(out) == run_id:
        return
    fs, root = open_store(out)
    stage = f"{root}/{STAGING}/{run_id}"
    missing = _missing(fs, stage, manifest)
    if missing:
        raise ReconcileError(f"{out}: {missing[0]} is not whole in staging: run again")
    put_bytes(fs, f"{stage}/{MANIFEST}", manifest.to_json().encode())
    put_bytes(fs, f"{root}/{JOURNAL}", json.dumps({"run_id": run_id}).encode())
    recover(out)


def recover(out: str) -> str | None:
    """Finish the publication that a journal tells of; gives its run id, None without a journal.

    Every step may be done again, whether or not it was done before.
    """
    fs, root = open_store(out)
    journal = _read(fs, f"{root}/{JOURNAL}")
    if journal is None:
        return None
    run_id: str = json.loads(journal)["run_id"]
    stage = f"{root}/{STAGING}/{run_id}"
    text = _read(fs, f"{stage}/{MANIFEST}")
    # staging is cleared after `_SUCCESS` is written, so without a manifest only tidying is left
    if text is not None:
        _install(fs, root, stage, text)
    _clear_staging(fs, root)
    _remove(fs, f"{root}/{JOURNAL}")
    return run_id


@contextmanager
def lock(out: str) -> Iterator[None]:
    """Keep other jobs from writing this output; only local stores can, elsewhere it does nothing.

    The kernel lets go of the lock however the process ends.

    Raises:
        UsageError: another process holds it.
    """
    fs, root = open_store(out)
    if not is_local(fs):
        yield
        return
    path = Path(root, STAGING, _LOCK)
    file = _acquire(path, out)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: nobody else's is removed
        _remove_empty(path.parent)
        file.close()


def _acquire(path: Path, out: str) -> IO[str]:
    import fcntl  # not everywhere that this module can be imported

    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+")
        except FileNotFoundError:  # its last holder tidied up since
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                return file
        except BlockingIOError:
            file.seek(0)
            pid = file.read() or "?"
            file.close()
            raise UsageError(
                f"{out}: process {pid} is writing this output: wait for it, or stop it"
            ) from None
        except FileNotFoundError:
            pass
        file.close()  # its last holder removed it before we had the lock: take the new one


def _install(fs: Any, root: str, stage: str, text: bytes) -> None:
    manifest = parse(text, f"{stage}/{MANIFEST}")
    new = {file.name for file in manifest.files}
    _remove(fs, f"{root}/{SUCCESS}")
    stale = [name for name in _listing(fs, root) if name not in new]
    _each(lambda name: _remove(fs, f"{root}/{name}"), [n for n in stale if _is_ours(n)])
    # a file that is not in staging any more was moved by the attempt that was killed
    staged = [name for name in _listing(fs, stage) if name in new]
    _each(lambda name: move(fs, f"{stage}/{name}", f"{root}/{name}"), staged)
    missing = _missing(fs, root, manifest)
    if missing:
        raise ReconcileError(f"{root}/{missing[0]} is lost: remove {root}/{JOURNAL} and run again")
    put_bytes(fs, f"{root}/{MANIFEST}", text)
    put_bytes(fs, f"{root}/{SUCCESS}", b"")


def _is_ours(name: str) -> bool:
    return _OURS.fullmatch(PurePosixPath(name).name) is not None


def _listing(fs: Any, root: str) -> dict[str, int]:
    """The sizes of the files that may be parts or rejects, by name relative to `root`."""
    rejects = file_sizes(fs, f"{root}/{REJECTS}")
    return {
        **file_sizes(fs, root),
        **{f"{REJECTS}/{name}": size for name, size in rejects.items()},
    }


def _missing(fs: Any, root: str, manifest: Manifest) -> list[str]:
    """The files of a manifest that are not there in their size."""
    sizes = _listing(fs, root)
    return [file.name for file in manifest.files if sizes.get(file.name) != file.bytes]


def _clear_staging(fs: Any, root: str) -> None:
    """Remove all but the lock, which goes when it is released."""
    folder = f"{root}/{STAGING}"
    fs.invalidate_cache()
    with contextlib.suppress(FileNotFoundError):
        for path in fs.ls(folder, detail=False):
            if PurePosixPath(path).name != _LOCK:
                fs.rm(path, recursive=True)
    if is_local(fs):
        _remove_empty(Path(folder))


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove(fs: Any, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def _read(fs: Any, path: str) -> bytes | None:
    try:
        data: bytes = fs.cat_file(path)
    except FileNotFoundError:
        return None
    return data


def _each(action: Any, names: list[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(action, names))
