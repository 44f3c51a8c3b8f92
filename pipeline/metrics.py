"""What is counted, the same on every engine and in the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from glossator.model import labeller

if TYPE_CHECKING:
    from apache_beam.metrics.metric import MetricResults

    from glossator.pipeline.outputs.staging import SplitRecord

NAMESPACE = "glossator"
"""Of the counters and distributions in Beam."""
STAGES = ("model_load", "read", *labeller.STAGES, "arrow", "write")
"""What a worker's time goes to; `arrow` is putting the answers into columns."""


@dataclass
class Measures:
    """What one piece of work came to."""

    counters: dict[str, int] = field(default_factory=dict)
    distributions: dict[str, int] = field(default_factory=dict)
    """One value for each piece of work: percentages and milliseconds."""


def measures(
    rows: Mapping[str, int], rejects: Mapping[str, int], amounts: Mapping[str, float]
) -> Measures:
    """The measures of a piece of work.

    Args:
        rows: `rows_read`, `rows_labelled` and the like.
        rejects: how many by reason.
        amounts: what labelling added up: `tokens`, `distinct_texts`, `truncated_texts`,
            `padded_tokens` (computed, padding included), `characters`, `lone_bytes`,
            `carried_rows` (of splits that an earlier run had alike), `reused_rows` (whose texts
            one had, in other splits) and `<stage>_seconds`.
    """
    sums = (
        "distinct_texts",
        "tokens",
        "truncated_texts",
        "padded_tokens",
        "characters",
        "lone_bytes",
        "carried_rows",
        "reused_rows",
    )
    counters = {
        **rows,
        **{name: int(amounts.get(name, 0)) for name in sums},
        **{f"rejects_{reason}": count for reason, count in rejects.items()},
    }
    distributions = {
        f"{stage}_ms": round(1000 * amounts[f"{stage}_seconds"])
        for stage in STAGES
        if f"{stage}_seconds" in amounts
    }
    if labelled := rows.get("rows_labelled"):
        distributions["distinct_percent"] = round(100 * counters["distinct_texts"] / labelled)
    if counters["padded_tokens"]:
        filled = counters["tokens"] / counters["padded_tokens"]
        distributions["batch_fill_percent"] = round(100 * filled)
    return Measures(counters, distributions)


def of_split(record: SplitRecord) -> Measures:
    """The measures of a split."""
    names = ("rows_read", "rows_labelled", "rows_rejected", "rows_unreadable")
    rows = {name: getattr(record, name) for name in names}
    return measures(rows, record.rejects, record.metrics)


def emit(measured: Measures) -> None:
    """Adds them to Beam's metrics; to be called while an element is processed."""
    from apache_beam.metrics import Metrics  # all else here is of use without Beam

    for name, count in measured.counters.items():
        Metrics.counter(NAMESPACE, name).inc(count)
    for name, value in measured.distributions.items():
        Metrics.distribution(NAMESPACE, name).update(value)


def summed(all_of_them: Iterable[Measures]) -> dict[str, Any]:
    """Counters added up and distributions as count, sum, min and max, as Beam shows them."""
    counters: Counter[str] = Counter()
    values: dict[str, list[int]] = {}
    for measured in all_of_them:
        counters.update(measured.counters)
        for name, value in measured.distributions.items():
            values.setdefault(name, []).append(value)
    return {
        "counters": dict(sorted(counters.items())),
        "distributions": {
            name: {"count": len(v), "sum": sum(v), "min": min(v), "max": max(v)}
            for name, v in sorted(values.items())
        },
    }


def of_engine(results: MetricResults) -> dict[str, Any]:
    """What the engine itself counted, in the form of `summed`.

    Names are looked up in our namespace whatever the step: Flink and Prism name a step by its
    generated id. Counts of an attempt that failed may be among them; the manifest's never are.
    """
    found = results.query()
    counters: Counter[str] = Counter()
    distributions: dict[str, dict[str, int]] = {}
    for counter in found["counters"]:
        if counter.key.metric.namespace == NAMESPACE:
            counters[counter.key.metric.name] += counter.result or 0
    for entry in found["distributions"]:
        if entry.key.metric.namespace == NAMESPACE and entry.result is not None:
            value = entry.result
            distributions[entry.key.metric.name] = {
                "count": value.count,
                "sum": value.sum,
                "min": value.min,
                "max": value.max,
            }
    return {
        "counters": dict(sorted(counters.items())),
        "distributions": dict(sorted(distributions.items())),
    }
