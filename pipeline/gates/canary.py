"""Some texts of a night with their labels, kept for the next model: how they are drawn and kept.

They are drawn by a hash of where a row stands, its file and number, so that no pass over the input
is needed and any division into splits draws the same: those of the smallest hashes. As the rows of
a run are known from its plan, so is about how small those are, and a split keeps next to nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glossator.model.store import open_store, put_bytes, read_bytes
from glossator.model.tasks import Task
from glossator.model.typed_json import Matches, TypedJsonError, dumps, from_json, loads
from glossator.pipeline.gates.limits import MOST_CANARIES
from glossator.pipeline.outputs.kinds import SHAPES
from glossator.pipeline.outputs.publish import staging
from glossator.pipeline.outputs.staging import CANARY, RUN_ID, Canary, SplitRecord

_HASHES = 1 << 64


def below(texts: int, rows: int) -> int:
    """The bound on hashes under which twice as many of a run's rows lie as texts are wanted.

    Args:
        texts: to be kept of the run.
        rows: of the run.
    """
    return min(_HASHES - 1, 2 * texts * _HASHES // max(1, rows))


def hashes(
    uris: Sequence[str], of: NDArray[np.integer[Any]], rows: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """[n] hashes of rows of files: splitmix64 (Steele et al. 2014).

    Args:
        uris: of the files.
        of: [n] whose each row is, as a place among these.
        rows: [n] their numbers in the files.
    """
    seeds = b"".join(hashlib.blake2b(uri.encode(), digest_size=8).digest() for uri in uris)
    with np.errstate(over="ignore"):
        z = np.frombuffer(seeds, ">u8").astype(np.uint64)[of]
        z += (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def drawn(table: pa.Table, texts: pa.Array, tasks: Sequence[Task], bound: int) -> list[Canary]:
    """The canaries among labelled rows.

    Args:
        table: the rows, in a part's columns.
        texts: [n] theirs.
        tasks: that they were labelled for.
        bound: of the hashes, as `below` gives it.
    """
    if not bound or not table.num_rows:
        return []
    numbers = table.column("source_row").to_numpy()
    files = table.column("source_file").combine_chunks().dictionary_encode()
    found = hashes(files.dictionary.to_pylist(), files.indices.to_numpy(), numbers)
    rows = np.flatnonzero(found < np.uint64(bound))
    rows = rows[np.argsort(found[rows])][:MOST_CANARIES]
    said = answers({task.name: table.column(task.name).take(rows) for task in tasks}, tasks)
    return [
        Canary(
            int(found[row]),
            texts[int(row)].as_py(),
            {task: column[i] for task, column in said.items()},
        )
        for i, row in enumerate(rows.tolist())
    ]


def answers(columns: dict[str, pa.Array], tasks: Sequence[Task]) -> dict[str, list[str]]:
    """By task, each text's answer as one string; regressions have none."""
    result = {}
    for task in tasks:
        column = columns[task.name]
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        said = SHAPES[task.kind].answers(column)
        if said is not None:
            result[task.name] = said
    return result


def smallest(canaries: Iterable[Canary], most: int = MOST_CANARIES) -> list[Canary]:
    """Those of the smallest hashes, in their order."""
    return sorted(canaries, key=lambda one: one.hash)[:most]


@dataclass(frozen=True)
class _Kept:
    """What `_canary.json` holds."""

    format: Literal["glossator-canary-1"]
    run_id: Annotated[str, Matches(RUN_ID)]
    texts: tuple[Canary, ...]


def save(output: str, run_id: str, records: Iterable[SplitRecord], most: int) -> None:
    """Keep a run's canaries, so many at most; with 0, none."""
    # the records of a run that was published before, and is done in part anew, have them no more
    known = {one.hash: one for one in load(output, run_id)} if most else {}
    known |= {one.hash: one for record in records for one in record.canaries}
    kept = smallest(known.values(), most)
    if not kept:
        return
    texts = [vars(one) for one in kept]
    content = dumps({"format": "glossator-canary-1", "run_id": run_id, "texts": texts})
    fs, root = open_store(staging(output, run_id))
    put_bytes(fs, f"{root}/{CANARY}", content.encode(), durable=True)


def load(output: str, run_id: str) -> tuple[Canary, ...]:
    """The canaries of a run; none where there are none, or they are another run's."""
    fs, root = open_store(staging(output, run_id))
    content = read_bytes(fs, f"{root}/{CANARY}")
    if content is None:
        return ()
    try:
        kept = from_json(_Kept, loads(content))
    except TypedJsonError:  # damaged: of no use, and of no harm
        return ()
    return kept.texts if kept.run_id == run_id else ()
