"""What it costs to find out that a split, or its texts, are known, beside labelling them.

    python tests/benchmarks/carrying.py --input comments.parquet

Of a file's first split: the processor's time for labelling it, for the digest of what is read that
labelling makes by the way, and for reading and digesting it alone. That is what a split that did
not change takes, but for its part, which is digested and copied. Then of `--reuse`: the digests of
texts that labelling keeps, the whole split where an earlier run has all its texts, and what of this
is looking for them, reading the earlier part and taking from it. Medians of three rounds, with the
default model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from glossator.pipeline.inputs.content import Content
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.inputs.read import Piece, read
from glossator.pipeline.label import SplitLabelling, label_split
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.options import identity
from glossator.pipeline.outputs.text_digests import digests_of, joined, sample
from glossator.pipeline.reuse import known_answers

ROUNDS = 3


def seconds(work: Callable[[], object]) -> float:
    """The processor's time of all threads."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True)
    given = parser.parse_args()
    labelling = Labelling.of("default", None, None, 5)
    plan = make_plan([given.input], text=None, keys=[], identity="carrying")
    split = plan.splits[0]
    pieces = [p for p in read(split, plan.columns) if isinstance(p, Piece)]

    whose = identity(labelling.digest, labelling.names, labelling.top)

    def label(staging: str | None = None, **reuse: Any) -> None:
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
                    staging=staging or folder,
                    **reuse,
                ),
            )

    def keep() -> None:
        for piece in pieces:
            texts = piece.text.drop_null().dictionary_encode()
            digests = digests_of(texts.dictionary, whose)
            sample(joined(digests.take(texts.indices)))

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
    of_labelling, of_digest, of_look, of_keeping = (
        median(seconds(work) for _ in range(ROUNDS)) for work in (label, digest, look, keep)
    )
    of_reuse, of_taking = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as earlier:  # of its own: what was read is remembered
            label(earlier, reuse=whose)
            texts = pc.unique(pa.concat_arrays([piece.text for piece in pieces]).drop_null())
            take = partial(known_answers, digests_of(texts, whose), (earlier,), labelling.names)
            of_taking.append(seconds(take))
        with tempfile.TemporaryDirectory() as earlier:
            label(earlier, reuse=whose)
            of_reuse.append(seconds(partial(label, reuse=whose, before=(earlier,))))
    print(f"{split.rows:,} rows: labelling {of_labelling:.2f} s of one thread")
    print(f"its digest {of_digest:.3f} s ({of_digest / of_labelling:.2%})")
    print(f"reading and digesting alone {of_look:.3f} s ({of_look / of_labelling:.1%})")
    print(f"digests of texts {of_keeping:.3f} s ({of_keeping / of_labelling:.1%})")
    for name, found in (("all texts known", of_reuse), ("of that, taking them", of_taking)):
        print(f"{name} {median(found):.3f} s ({median(found) / of_labelling:.1%})")


if __name__ == "__main__":
    main()
