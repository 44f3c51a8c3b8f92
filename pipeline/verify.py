"""Whether what is published is what its manifest says, and the inputs are what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model.store import open_store, redacted, sha256
from glossator.pipeline.inputs.footer import read_footer
from glossator.pipeline.inputs.plan import Source
from glossator.pipeline.outputs.manifest import Manifest, OutputFile
from glossator.pipeline.outputs.publish import manifest_of, missing_files, staging

_THREADS = 16


@dataclass(frozen=True)
class Verdict:
    """What was found."""

    output: str
    run: str
    deep: bool
    """Whether all bytes were read, or sizes and counts alone."""
    files: int
    """Parts and rejects that were looked at."""
    rows: int
    """In them, by their footers."""
    problems: tuple[str, ...]
    """What is not as the manifest says."""
    inputs_changed: tuple[str, ...]
    """Inputs that are not what they were: a rerun would label anew. No fault of the output."""

    @property
    def whole(self) -> bool:
        """Whether the publication is what its manifest says."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "whole": self.whole}


def verify(
    out: str,
    run_id: str,
    *,
    deep: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verdict:
    """Hold a publication against its manifest, and the manifest against the inputs.

    Args:
        out: the output.
        run_id: of the run to look at.
        deep: read every byte of parts and rejects, and compare digests.
        progress: is told of files done and of all.
    """
    manifest = manifest_of(out, run_id)
    if manifest is None:
        lost = f"{staging(out, run_id)}: the manifest is lost"
        return Verdict(redacted(out), run_id, deep, 0, 0, (lost,), ())
    lost_files = set(missing_files(out, manifest))
    problems = [f"{name}: is not there in its size" for name in sorted(lost_files)]
    rows = 0
    there = [file for file in manifest.files if file.name not in lost_files]
    folder = staging(out, run_id)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda file: _look(folder, file, deep), there)
        for number, (file, (count, problem)) in enumerate(zip(there, found, strict=True), 1):
            rows += count
            if problem:
                problems.append(f"{file.name}: {problem}")
            progress(number, len(there))
        changed = [change for change in pool.map(_changed, manifest.inputs) if change is not None]
    problems += _sums(manifest)
    return Verdict(
        redacted(out), run_id, deep, len(there), rows, tuple(problems), tuple(sorted(changed))
    )


def lines(verdict: Verdict) -> list[str]:
    """The same for people."""
    how = "every byte of" if verdict.deep else "sizes and counts of"
    said = [
        f"run {verdict.run}: looked at {how} {verdict.files:,} files, {verdict.rows:,} rows:"
        f" {'whole' if verdict.whole else 'NOT WHOLE'}"
    ]
    said += [f"  {problem}" for problem in verdict.problems]
    if verdict.inputs_changed:
        count = len(verdict.inputs_changed)
        said.append(
            f"  {count:,} input{'s' * (count != 1)} changed since; a rerun would label anew:"
            f" {verdict.inputs_changed[0]}{', ...' if count > 1 else ''}"
        )
    if not verdict.whole:
        said.append("next: run the same `glossator label` again: what is lost is made anew")
    return said


def _look(folder: str, file: OutputFile, deep: bool) -> tuple[int, str | None]:
    """Rows by the footer of a part or rejects file, and what is wrong with it."""
    fs, path = open_store(f"{folder}/{file.name}")
    try:
        if deep and (digest := sha256(fs, path)) != file.sha256:
            return 0, f"its digest is {digest}, not {file.sha256}"
        with fs.open(path, "rb") as opened:
            rows = pq.read_metadata(opened).num_rows
    except (OSError, pa.ArrowException) as error:
        return 0, f"can't be read: {' '.join(str(error).split())}"
    return rows, None if rows == file.rows else f"has {rows:,} rows, not {file.rows:,}"


def _sums(manifest: Manifest) -> list[str]:
    """What does not add up in the manifest itself."""
    totals = manifest.totals
    return [
        f"{what}: {left:,} is not {right:,}"
        for what, left, right in (
            (
                "rows of the parts = rows labelled",
                sum(part.rows for part in manifest.parts),
                totals.rows_labelled,
            ),
            (
                "rows read = labelled + rejected",
                totals.rows_read,
                totals.rows_labelled + totals.rows_rejected,
            ),
            (
                "rows of the inputs = read + unreadable",
                sum(source.rows for source in manifest.inputs),
                totals.rows_read + totals.rows_unreadable,
            ),
        )
        if left != right
    ]


def _changed(source: Source) -> str | None:
    """The input's URI, and how it differs from what was labelled; None if it does not."""
    try:
        fs, path = open_store(source.uri)
        size = fs.info(path)["size"]
        if size != source.size:
            return f"{source.uri} (has {size:,} bytes, had {source.size:,})"
        footer = read_footer(fs, path, size) if source.footer_sha256 else b""
        if footer and hashlib.sha256(footer).hexdigest() != source.footer_sha256:
            return f"{source.uri} (has another footer)"
    except FileNotFoundError:
        return f"{source.uri} (is gone)"
    except Exception as error:  # of any store, and no fault of the output
        return f"{source.uri} (can't be looked at: {' '.join(str(error).split())})"
    return None
