"""How a finished run becomes the output: all of it or nothing, whenever it is killed.

Of an output OUT, `OUT/_runs/<run id>/` holds a run from its first part on: what is written there is
never moved, and never replaced by anything else than the same bytes. Publishing writes the run's
manifest, and then `OUT/_current.json`, in one step. What was current before stays for a while, for
those who are reading it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Literal

from glossator.model.errors import UsageError
from glossator.model.store import file_sizes, open_store, put_bytes, read_bytes, sync
from glossator.pipeline.errors import ReconcileError, UnsettledError
from glossator.pipeline.inputs.plan import Plan
from glossator.pipeline.outputs import layout
from glossator.pipeline.outputs.current import (
    RUNS,
    read_current,
    require_token,
    switch,
    utc_now,
)
from glossator.pipeline.outputs.layout import SUCCESS
from glossator.pipeline.outputs.manifest import MANIFEST, MANIFESTS, Manifest, Version, parse
from glossator.pipeline.outputs.staging import (
    PACKED,
    RECORDS,
    REFUSAL,
    REJECTS,
    REPORT,
    SplitRecord,
    completed_records,
    pack_records,
    save_plan,
)

KEEP_SECS = 24 * 3600.0
"""So long a run that was current is kept, unless it is said otherwise."""
_HISTORY = 100
"""So many earlier runs a manifest tells of."""


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
    if read_current(out)[1] is not None:
        published(out)
        return
    names = layout.names(fs, root)
    if MANIFEST in names:
        raise UsageError(
            f"{out}: was published by an earlier version of Glossator, or by something else: its"
            f" {MANIFEST} lies beside the parts: name another folder, or move all of it away",
            parameter="output",
        )
    # `_current.json` is there before any `_SUCCESS` of ours
    ours = SUCCESS not in names and (layout.LEASE in names or layout.holds_runs(fs, root))
    others = names if layout.runs(fs, root) else names - {RUNS}
    if others and not ours:
        raise UsageError(
            f"{out}: holds files that glossator did not write ({min(others)}, ...):"
            " name an empty or new folder",
            parameter="output",
        )


def begin(out: str, plan: Plan) -> list[str]:
    """Make a run's folder, with the plan in it; call it as the sole writer, before the work.

    What killed writers of this output left is removed.

    Returns:
        The names of what others put beside the runs: it stays there.

    Raises:
        UsageError: links lie in the place of what we write.
        FileNotFoundError: an object store does not have the bucket.
    """
    fs, root = open_store(out)
    layout.require_no_links(out, fs, root, plan.run_id)
    layout.remove_unfinished(fs, root, plan.run_id)
    if read_current(out)[0].run != plan.run_id:  # what they say of the run may be true no more
        for name in (REFUSAL, REPORT):
            layout.remove_file(fs, f"{root}/{RUNS}/{plan.run_id}/{name}")
    layout.mark_runs(out, fs, root)
    save_plan(plan, staging(out, plan.run_id))
    return layout.others_among_runs(fs, root)


def remove_unfinished(out: str, run_id: str) -> None:
    """Remove what killed writers of an output and of a run left; call it as the sole writer."""
    fs, root = open_store(out)
    layout.remove_unfinished(fs, root, run_id)


def staging(out: str, run_id: str) -> str:
    """The URI of a run's folder, which is its staging until it is published."""
    return f"{out.rstrip('/')}/{RUNS}/{run_id}"


def current_folder(out: str) -> str:
    """The folder whose `part-*.parquet` are what is published; they stay as they are.

    A reader that asks once, and reads in that folder, reads one publication whole, whatever is
    published meanwhile; for how long it is kept, the next run's `--keep` says.

    Args:
        out: the output.

    Raises:
        UsageError: nothing is published there.
    """
    return staging(out, current_run(out))


def current_run(out: str) -> str:
    """The id of the run that is published.

    Raises:
        UsageError: none is.
    """
    current, _ = read_current(out)
    if current.run is None:
        raise UsageError(f"{out}: nothing is published there", parameter="output")
    return current.run


def published(out: str) -> Manifest | None:
    """The manifest of what a reader finds now; None if nothing is published.

    Raises:
        UsageError: the manifest, or what says which is current, is damaged.
    """
    current, _ = read_current(out)
    return None if current.run is None else manifest_of(out, current.run)


def manifest_of(out: str, run_id: str) -> Manifest | None:
    """The manifest of a run that is, or was, published; None if it is not there.

    Raises:
        UsageError: it is damaged.
    """
    fs, root = open_store(out)
    text = read_bytes(fs, f"{root}/{RUNS}/{run_id}/{MANIFEST}")
    return None if text is None else parse(text, f"{staging(out, run_id)}/{MANIFEST}")


def state(out: str, run_id: str) -> Literal["published", "resumable", "new"]:
    """What there is of a run."""
    fs, root = open_store(out)
    manifest, folder = published(out), f"{root}/{RUNS}/{run_id}"
    if manifest and manifest.run_id == run_id and not missing_files(out, manifest):
        return "published"
    if file_sizes(fs, f"{folder}/{RECORDS}") or PACKED in file_sizes(fs, folder):
        return "resumable"
    return "new"


def publish(
    out: str,
    run_id: str,
    manifest: Manifest,
    *,
    records: Iterable[SplitRecord] | None = None,
    token: int | None = None,
    keep_seconds: float = KEEP_SECS,
) -> Manifest:
    """Make a run that is whole the current one.

    Args:
        out: the output.
        run_id: of the run.
        manifest: what is to be said of it.
        records: of its splits; None to read them.
        token: of the lease, where there is one.
        keep_seconds: so long runs that were current stay; the last one stays in any case.

    Returns:
        The manifest with the time, and with what was published before.

    Raises:
        ReconcileError: a file of the manifest is not whole; nothing was touched.
        FencedError: another run has taken the output over.
        UnsettledError: it is published, but not all that comes after is done.
        UsageError: links lie in the place of what we write.
    """
    fs, root = open_store(out)
    folder = f"{root}/{RUNS}/{run_id}"
    layout.require_no_links(out, fs, root, run_id)
    require_token(out, run_id, token)
    missing = missing_files(out, manifest)
    if missing:
        raise ReconcileError(f"{out}: {missing[0]} is not whole in staging: run again")
    manifest = _dated(manifest, published(out))
    if records is None:
        records = completed_records(staging(out, run_id)).values()
    pack_records(staging(out, run_id), sorted(records, key=lambda record: record.index))
    # what is said to be published has to be there even if the power fails
    sync(fs, [f"{folder}/{file.name}" for file in manifest.files])
    text = manifest.to_json().encode()
    put_bytes(fs, f"{folder}/{MANIFEST}", text, durable=True)
    MANIFESTS.keep(text, manifest)
    rejects = [f"{folder}/{REJECTS}"] if manifest.rejects else []
    sync(fs, [*rejects, folder, f"{root}/{RUNS}", root])
    switch(out, run_id, manifest.published, token)
    settle(out, keep_seconds, token)
    return manifest


def settle(out: str, keep_seconds: float = KEEP_SECS, token: int | None = None) -> None:
    """Remove what is of no more use beside the run that is current, and say that there is one.

    A publication that was killed after the switch is done with by this. Before each run's removal
    it is seen whether the output is still ours: who was paused must not remove another's work.

    Raises:
        FencedError: another run has taken the output over.
        UnsettledError: something can't be written or removed.
    """
    manifest = published(out)
    if manifest is None:
        return
    try:
        _settle(out, manifest, keep_seconds, token)
    except OSError as error:
        raise UnsettledError(
            f"{out}: run {manifest.run_id} is published, but what is left to do beside it failed:"
            f" {' '.join(str(error).split())}: run it again, which does the rest"
        ) from error


def _settle(out: str, manifest: Manifest, keep_seconds: float, token: int | None) -> None:
    fs, root = open_store(out)
    if SUCCESS not in layout.names(fs, root):
        put_bytes(fs, f"{root}/{SUCCESS}", b"", durable=True)
    require_token(out, manifest.run_id, token)
    layout.remove_work(fs, root, manifest.run_id)
    kept = kept_runs(manifest, keep_seconds, time.time())
    for name in sorted(layout.runs(fs, root) - kept):
        require_token(out, manifest.run_id, token)
        if not layout.of_table(fs, root, name):
            layout.remove_run(fs, root, name)


def kept_runs(manifest: Manifest, keep_seconds: float, now: float) -> set[str]:
    """The ids of the runs that stay: the current one, the last, and those replaced lately.

    Args:
        manifest: of the current run.
        keep_seconds: how lately.
        now: seconds since the epoch.
    """
    kept = {manifest.run_id}
    replaced = manifest.published
    for number, version in enumerate(manifest.history):
        if number == 0 or now - _seconds(replaced) <= keep_seconds:
            kept.add(version.run_id)
        replaced = version.published
    return kept


def _dated(manifest: Manifest, before: Manifest | None) -> Manifest:
    """The manifest as it is published: now, and after what."""
    history: tuple[Version, ...] = ()
    if before is not None:
        history = before.history
        if before.run_id != manifest.run_id:
            history = (Version.of(before), *history)
    others = tuple(version for version in history if version.run_id != manifest.run_id)
    return replace(manifest, published=utc_now(), history=others[:_HISTORY])


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def missing_files(out: str, manifest: Manifest) -> list[str]:
    """The files of a manifest that are not there in their size."""
    fs, root = open_store(out)
    folder = f"{root}/{RUNS}/{manifest.run_id}"
    rejects = file_sizes(fs, f"{folder}/{REJECTS}") if manifest.rejects else {}
    sizes = {
        **file_sizes(fs, folder),
        **{f"{REJECTS}/{name}": size for name, size in rejects.items()},
    }
    return [file.name for file in manifest.files if sizes.get(file.name) != file.bytes]
