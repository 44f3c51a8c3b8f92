"""The job beside what one would take instead of it, from Parquet to Parquet, start-up included.

    python tests/benchmarks/rivals.py --input 'comments/*.parquet' --rows 357670

Each round is `glossator bench` against all rivals, four tasks, the five heaviest words of ours, and
nothing to explain theirs. Of the rounds' rates and ratios the median, and in brackets the spread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from throughput import processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--tasks", default="sentiment,person,gender,topic")
    parser.add_argument("--against", default="tfidf,fasttext,runinference")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    command = [sys.executable, "-m", "glossator", "bench", "--input", given.input, "--json"]
    command += ["--rows", str(given.rows), "--tasks", given.tasks, "--against", given.against]
    accounts = [
        json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        for _ in range(given.rounds)
    ]
    rates = [account["comments_per_second"] for account in accounts]
    print(f"{processor()}; {accounts[0]['comments']:,} comments, {given.rounds} rounds")
    print("| | comments/s | ours beside it |\n|---|---|---|")
    print(f"| ours | {_median(rates, ',.0f')} | 1 |")
    for name in accounts[0]["rivals"]:
        theirs = [account["rivals"][name] for account in accounts]
        ratios = [ours / one for ours, one in zip(rates, theirs, strict=True)]
        print(f"| {name} | {_median(theirs, ',.0f')} | {_median(ratios, '.2f')} |")


def _median(values: list[float], form: str) -> str:
    low, high = (f"{value:{form}}" for value in (min(values), max(values)))
    return f"{statistics.median(values):{form}} ({low} to {high})"


if __name__ == "__main__":
    main()
