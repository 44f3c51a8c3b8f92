"""The page of a run, as HTML, and where it lies: beside the run's manifest.

Whoever may read it may read the labels beside it, but a page is passed on more easily. So it quotes
no text and no key, unless that is asked for; names of files and labels are always in it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from glossator.model.errors import GlossatorError
from glossator.model.report.blocks import Cell, Table
from glossator.model.report.frame import rendered
from glossator.model.store import open_store, put_bytes, read_bytes
from glossator.model.terminal import reason, without_secrets
from glossator.pipeline.gates.nights import Nights
from glossator.pipeline.night_report import checks, labels, verdict, work
from glossator.pipeline.night_report.facts import Facts, of_run, refused_runs
from glossator.pipeline.outputs.current import read_current
from glossator.pipeline.outputs.manifest import Manifest
from glossator.pipeline.outputs.publish import staging
from glossator.pipeline.outputs.staging import REPORT, SplitRecord

_TEMPLATE = Path(__file__).with_name("page.html.jinja")
_VERSIONS = 20


def render(facts: Facts) -> str:
    """The page.

    Raises:
        UsageError: Jinja is missing.
    """
    manifest = facts.manifest
    return rendered(
        _TEMPLATE,
        name=manifest.options.get("date") or PurePosixPath(facts.output).name,
        facts=facts,
        run=manifest,
        verdict=verdict.verdict(facts),
        figures=verdict.figures(facts),
        came_in=verdict.came_in(facts),
        went_out=verdict.went_out(facts),
        unread=work.unread(facts),
        nights=checks.nights(facts),
        cards=checks.cards(facts),
        without_figure=checks.without_figure(facts),
        shares=labels.shares(facts),
        flips=labels.flips(facts),
        rejects=_rejects(facts),
        texts=_texts(facts),
        slowest=work.slowest(facts),
        splits=work.remark(facts),
        stages=work.stages(facts),
        versions=_versions(manifest),
        history=_history(facts),
    )


def leave(
    output: str,
    manifest: Manifest,
    records: Sequence[SplitRecord],
    found: Nights,
    before: Sequence[str],
    *,
    refused: bool = False,
) -> str | None:
    """Put the page of a run into its folder; where it lies, or None.

    Labels are worth more than a page: one that can't be made is a line in the log.

    Args:
        output: the output.
        manifest: of the run, with its checks.
        records: of its splits.
        found: what was published before.
        before: the outputs of earlier dates, the last one first.
        refused: whether it was not published.
    """
    where = f"{staging(output, manifest.run_id)}/{REPORT}"
    try:
        page = render(of_run(output, manifest, records, found, before, refused=refused))
        fs, path = open_store(where)
        put_bytes(fs, path, page.encode("utf-8", "replace"))
    except Exception as error:  # whatever it is
        logging.getLogger(__name__).warning("no report of the run: %s", reason(error))
        return None
    return where


def left(output: str, run_id: str) -> str | None:
    """Where the page of a run lies; None where there is none."""
    where = f"{staging(output, run_id)}/{REPORT}"
    with suppress(OSError, GlossatorError):
        fs, path = open_store(where)
        fs.invalidate_cache()
        if fs.isfile(path):
            return where
    return None


def of_refused(output: str) -> str | None:
    """The page that a refused run has left in an output where nothing is published.

    Raises:
        UsageError: what says which run is current is damaged.
        OSError: the store does not answer.
    """
    if read_current(output)[0].run is not None:
        return None
    for run in refused_runs(output):
        fs, path = open_store(f"{staging(output, run)}/{REPORT}")
        if (page := read_bytes(fs, path)) is not None:
            return page.decode("utf-8", "replace")
    return None


def _rejects(facts: Facts) -> Table | None:
    rows: list[list[Cell]] = [[one.reason, one.file, one.row, one.detail] for one in facts.rejects]
    return Table(("reason", "file", "row", "detail"), rows) if rows else None


def _texts(facts: Facts) -> list[tuple[str, int, list[tuple[str, str]]]]:
    """Texts as far as they are quoted, how many characters more there are, and their labels."""
    return [
        (
            " ".join(one.text[: facts.characters].split()),
            max(0, len(one.text) - facts.characters),
            [(task, answer or "(none)") for task, answer in one.answers.items()],
        )
        for one in facts.texts
    ]


def _versions(manifest: Manifest) -> list[tuple[str, str]]:
    options = without_secrets(manifest.options)
    return [
        ("run", manifest.run_id),
        ("model", str(options.get("model", ""))),
        ("its digest", manifest.model),
        ("tasks", ", ".join(options.get("tasks", ()))),
        *sorted(manifest.versions.items()),
    ]


def _history(facts: Facts) -> Table | None:
    rows: list[list[Cell]] = [
        [one.published, one.run_id, one.model[:12], one.rows_read, one.rows_labelled]
        for one in facts.history
    ]
    head = ("published", "run", "model", "rows read", "labelled")
    left_out = max(0, len(rows) - _VERSIONS)
    return Table(head, rows[:_VERSIONS], left_out) if rows else None
