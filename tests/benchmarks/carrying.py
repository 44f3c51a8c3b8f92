"""What it costs to find out that a split is alike, beside labelling it.

    python tests/benchmarks/carrying.py --input comments.parquet

Of a file's first split: the processor's time for labelling it, for the digest of what is read that
labelling makes by the way, and for reading and digesting it alone. That is what a split that did
not change takes, but for its part, which is digested and copied. Medians of three rounds, with the
default model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from statistics import median

from glossator.pipeline.inputs.content import Content
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.inputs.read import Piece, read
from glossator.pipeline.label import SplitLabelling, label_split
from glossator.pipeline.labelling import Labelling

ROUNDS = 3


def seconds(work: Callable[[], object]) -> float:
    """The processor's time of this thread."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True)
    given = parser.parse_args()
    labelling = Labelling.of("default", None, None, 5)
    plan = make_plan([given.input], text=None, keys=[], identity="carrying")
    split = plan.splits[0]
    pieces = [p for p in read(split, plan.columns) if isinstance(p, Piece)]

    def label() -> None:
        with tempfile.TemporaryDirectory() as folder:
            label_split(
                split,
                SplitLabelling(
                    labelling.model,
                    labelling.digest,
                    labelling.tasks,
                    plan.columns.text,
                    labelling.top,
                    experts=labelling.experts,
                    columns=plan.columns,
                    staging=folder,
                ),
            )

    def digest() -> None:
        content = Content()
        for piece in pieces:
            content.add(piece)

    def look() -> None:
        content = Content()
        for piece in read(split, plan.columns):
            assert isinstance(piece, Piece)
            content.add(piece)

    label()  # loads the model
    of_labelling, of_digest, of_look = (
        median(seconds(work) for _ in range(ROUNDS)) for work in (label, digest, look)
    )
    print(f"{split.rows:,} rows: labelling {of_labelling:.2f} s of one thread")
    print(f"its digest {of_digest:.3f} s ({of_digest / of_labelling:.2%})")
    print(f"reading and digesting alone {of_look:.3f} s ({of_look / of_labelling:.1%})")


if __name__ == "__main__":
    main()
