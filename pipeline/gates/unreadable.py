"""What of the input could not be read, which is a check of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from glossator.pipeline.gates.checks import checked
from glossator.pipeline.gates.limits import Limits
from glossator.pipeline.inputs.plan import Plan
from glossator.pipeline.outputs.manifest import Check
from glossator.pipeline.outputs.staging import SplitRecord


@dataclass(frozen=True)
class Unreadable:
    """What of the input could not be read."""

    files: int
    """Of which nothing could be read, or not all."""
    whole_files: int
    rows: int
    """Of files that could be read in part; how many a file had that could not, nobody knows."""
    planned_files: int
    planned_rows: int

    @property
    def share(self) -> float:
        """Of the planned rows, or of the files if that is more."""
        rows = self.rows / self.planned_rows if self.planned_rows else 0.0
        files = self.whole_files / self.planned_files if self.planned_files else 0.0
        return max(rows, files)

    def __str__(self) -> str:
        parts = []
        if self.whole_files:
            parts.append(f"{self.whole_files:,} of {self.planned_files:,} files")
        if self.rows:
            others = self.files - self.whole_files
            parts.append(
                f"{self.rows:,} of {self.planned_rows:,} rows, in {others:,}"
                f" {'other ' if parts else ''}file{'s' * (others != 1)},"
            )
        return f"{' and '.join(parts)} could not be read (a share of {self.share:.2%})"


def unreadable(plan: Plan, records: Iterable[SplitRecord]) -> Unreadable:
    """What could not be read of what was planned."""
    whole = {source.uri for source in plan.sources if source.error is not None}
    in_part: Counter[str] = Counter()
    for record in records:
        for range_ in record.ranges:
            in_part[range_.source] += range_.rows_unreadable
    return Unreadable(
        files=len(whole | (+in_part).keys()),
        whole_files=len(whole),
        rows=in_part.total(),
        planned_files=len(plan.sources),
        planned_rows=sum(source.rows for source in plan.sources),
    )


def check(found: Unreadable, limits: Limits) -> Check:
    """Whether no more could not be read than is allowed."""
    limit = limits.unreadable
    if isinstance(limit, float):
        return checked("unreadable", found.share, limit, "of the planned rows or files")
    return checked("unreadable", found.files, limit, f"of {found.planned_files:,} files")
