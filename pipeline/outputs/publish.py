"""How a finished run becomes the output: all of it or nothing, whenever it is killed.

Of an output folder OUT, `OUT/_staging/<run id>/` holds a run until it is whole. Publishing then
writes a journal, `OUT/_publishing.json`, and from that moment only goes forward: `recover`
finishes it as often as it is killed. Before the journal, what was published is not touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from glossator.model.errors import UsageError
from glossator.model.store import file_sizes, move, open_store, put_bytes, read_bytes, sync
from glossator.model.typed_json import Matches, TypedJsonError, from_json, loads
from glossator.pipeline.errors import ReconcileError
from glossator.pipeline.inputs.plan import Plan
from glossator.pipeline.outputs import layout
from glossator.pipeline.outputs.layout import JOURNAL, STAGING, SUCCESS
from glossator.pipeline.outputs.manifest import MANIFEST, Manifest, parse
from glossator.pipeline.outputs.staging import RECORDS, REFUSAL, REJECTS, RUN_ID, save_plan

_THREADS = 16


def check_output(out: str) -> None:
    """Refuse an output folder that holds something else than our output.

    Raises:
        UsageError: it does, or it is a file, or has links in the place of what we write.
    """
    fs, root = open_store(out)
    fs.invalidate_cache()
    try:
        info = fs.info(root)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise UsageError(f"{out}: lies below a file: name another", parameter="output") from error
    if info["type"] != "directory":
        raise UsageError(f"{out}: is a file: name a folder", parameter="output")
    layout.require_no_links(out, fs, root)
    manifest = read_bytes(fs, f"{root}/{MANIFEST}")
    if manifest is not None:
        parse(manifest, f"{out}/{MANIFEST}")
        return
    names = layout.names(fs, root)
    # our manifest is there before and after any `_SUCCESS` of ours
    ours = SUCCESS not in names and (
        _journal(fs, root, out) is not None or layout.is_staging(fs, root)
    )
    others = names if layout.staged(fs, root) else names - {STAGING}
    if others and not ours:
        raise UsageError(
            f"{out}: holds files that glossator did not write ({min(others)}, ...):"
            " name an empty or new folder",
            parameter="output",
        )


def begin(out: str, plan: Plan) -> list[str]:
    """Make a run's staging folder, with the plan in it; call it under the lock, before the work.

    What killed writers of this output left is removed.

    Returns:
        The names of what others put into the staging folder: it stays there.

    Raises:
        UsageError: links lie in the place of what we write.
        FileNotFoundError: an object store does not have the bucket.
    """
    fs, root = open_store(out)
    layout.require_no_links(out, fs, root, plan.run_id)
    layout.remove_unfinished(fs, root, plan.run_id)
    layout.remove_file(fs, f"{root}/{STAGING}/{plan.run_id}/{REFUSAL}")
    layout.mark_staging(out, fs, root)
    save_plan(plan, staging(out, plan.run_id))
    return layout.others_in_staging(fs, root)


def staging(out: str, run_id: str) -> str:
    """The URI of a run's staging folder."""
    return f"{out.rstrip('/')}/{STAGING}/{run_id}"


def published(out: str) -> Manifest | None:
    """The manifest of what a reader finds now; None if nothing is published.

    Raises:
        UsageError: the manifest is damaged.
    """
    fs, root = open_store(out)
    if read_bytes(fs, f"{root}/{SUCCESS}") is None:
        return None
    text = read_bytes(fs, f"{root}/{MANIFEST}")
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
    layout.require_no_links(out, fs, root, run_id)
    layout.remove_run(fs, root, run_id)
    layout.tidy_staging(fs, root)


def publish(out: str, run_id: str, manifest: Manifest) -> None:
    """Make a run that is whole in staging the output, in place of what was published before.

    Raises:
        ReconcileError: a file of the manifest is not whole in staging; nothing was touched.
        UsageError: links lie in the place of what we write, or a journal is damaged.
    """
    if recover(out) == run_id:
        return
    fs, root = open_store(out)
    stage = f"{root}/{STAGING}/{run_id}"
    layout.require_no_links(out, fs, root, run_id)
    missing = _missing(fs, stage, manifest)
    if missing:
        raise ReconcileError(f"{out}: {missing[0]} is not whole in staging: run again")
    # what the journal promises has to be there even if the power fails
    sync(fs, [f"{stage}/{file.name}" for file in manifest.files])
    _sync_folders(fs, stage)
    put_bytes(fs, f"{stage}/{MANIFEST}", manifest.to_json().encode(), durable=True)
    journal = json.dumps({"run_id": run_id}).encode()
    put_bytes(fs, f"{root}/{JOURNAL}", journal, durable=True)
    recover(out)


def recover(out: str) -> str | None:
    """Finish the publication that a journal tells of; gives its run id, None without a journal.

    Every step may be done again, whether or not it was done before.

    Raises:
        ReconcileError: a file of the run is lost.
        UsageError: links lie in the place of what we write, or the journal is damaged.
    """
    fs, root = open_store(out)
    run_id = _journal(fs, root, out)
    if run_id is None:
        return None
    layout.require_no_links(out, fs, root, run_id)
    stage = f"{root}/{STAGING}/{run_id}"
    text = read_bytes(fs, f"{stage}/{MANIFEST}")
    # staging is cleared after `_SUCCESS` is written, so without a manifest only tidying is left
    if text is not None:
        _install(fs, root, stage, text)
    layout.clear_staging(fs, root)
    layout.remove_file(fs, f"{root}/{JOURNAL}")
    return run_id


@dataclass(frozen=True)
class _Journal:
    """What `_publishing.json` holds."""

    run_id: Annotated[str, Matches(RUN_ID)]


def _journal(fs: Any, root: str, out: str) -> str | None:
    """The run that is being published."""
    text = read_bytes(fs, f"{root}/{JOURNAL}")
    if text is None:
        return None
    try:
        return from_json(_Journal, loads(text)).run_id
    except TypedJsonError as error:
        raise UsageError(
            f"{out}/{JOURNAL}: is damaged: {error}: remove it and run again", parameter="output"
        ) from error


def _install(fs: Any, root: str, stage: str, text: bytes) -> None:
    manifest = parse(text, f"{stage}/{MANIFEST}")
    new = {file.name for file in manifest.files}
    layout.remove_file(fs, f"{root}/{SUCCESS}")
    _sync_folders(fs, root)
    stale = [name for name in _listing(fs, root) if name not in new and _is_ours(name)]
    _each(lambda name: layout.remove_file(fs, f"{root}/{name}"), stale)
    # a file that is not in staging any more was moved by the attempt that was killed
    staged = [name for name in _listing(fs, stage) if name in new]
    _each(lambda name: move(fs, f"{stage}/{name}", f"{root}/{name}"), staged)
    missing = _missing(fs, root, manifest)
    if missing:
        raise ReconcileError(f"{root}/{missing[0]} is lost: remove {root}/{JOURNAL} and run again")
    _sync_folders(fs, root)
    put_bytes(fs, f"{root}/{MANIFEST}", text, durable=True)
    put_bytes(fs, f"{root}/{SUCCESS}", b"", durable=True)


def _is_ours(name: str) -> bool:
    last = name.rpartition("/")[2]
    return layout.is_part(last) or layout.is_unfinished(last)


def _sync_folders(fs: Any, root: str) -> None:
    sync(fs, [root, *(f"{root}/{name}" for name in {REJECTS} & layout.names(fs, root))])


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


def _each(action: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(action, names))
