"""Texts that an earlier publication has: their answers are taken from its parts, not computed.

A text is known again by its digest. Beside each part lie the digests of its rows, in their order,
and a sample of them is in the split's record. By the samples alone it is known which parts have
much in common with what is to be labelled, however many there are: no index of all texts is in
memory, and no part is read of which little can be taken.
"""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from glossator.model.store import open_store, read_bytes
from glossator.pipeline.outputs.staging import SplitRecord, completed_records, digests_path
from glossator.pipeline.outputs.text_digests import parted

WORTH = 0.05
"""A part is read where so many of its rows, as a share, can be taken: to read it and to take from
it costs about what labelling so many does (`tests/benchmarks/carrying.py`)."""
_LIKELY = WORTH / 2
"""Its digests are read where so many of its sample are there."""
MAX_PART_BYTES = 32 << 20
"""A larger part is not read: decoded, it would take ten times as much."""
_Integers = NDArray[np.int64]
_NONE = np.empty(0, np.int64)


class Known(NamedTuple):
    """The answers to some of n texts."""

    places: _Integers
    """[m] which of the texts."""
    columns: list[pa.StructArray]
    """[m] by task."""

    def before_others(self, texts: int) -> _Integers:
        """[n] the places of all the texts: first those known, in their order here."""
        others = np.ones(texts, bool)
        others[self.places] = False
        return np.concatenate([self.places, np.flatnonzero(others)])


def known_answers(digests: pa.Array, folders: tuple[str, ...], tasks: tuple[str, ...]) -> Known:
    """What earlier runs have answered to texts.

    Args:
        digests: of the texts, no two of which are the same.
        folders: of the runs, the last first.
        tasks: whose answers are wanted, in this order.
    """
    places: list[_Integers] = []
    tables: list[pa.Table] = []
    unknown = np.ones(len(digests), bool)
    for folder, record in _alike(digests, folders):
        if record.part_bytes > MAX_PART_BYTES:
            continue
        rows, of = _rows(folder, record, digests)
        rows, of = rows[unknown[of]], of[unknown[of]]
        of, first = np.unique(of, return_index=True)
        if len(of) == 0 or len(of) < WORTH * record.rows_labelled:
            continue
        part = _part(folder, record.part, record.part_sha256, tasks)
        if part is not None:
            unknown[of] = False
            places.append(of)
            tables.append(part.take(pa.array(rows[first])))
    if not tables:
        return Known(_NONE, [])
    table = pa.concat_tables(tables)
    return Known(np.concatenate(places), [pa.concat_arrays(c.chunks) for c in table.columns])


def _alike(digests: pa.Array, folders: tuple[str, ...]) -> list[tuple[str, SplitRecord]]:
    """The splits that seem to have many of the texts, and their folders; the most alike first."""
    samples = _samples(folders)
    found = pc.is_in(samples.digests, value_set=digests).to_numpy(zero_copy_only=False)
    counts = np.bincount(samples.owners[found], minlength=len(samples.records))
    shares = counts / samples.sizes
    order = np.argsort(-shares, kind="stable")
    return [samples.records[i] for i in order.tolist() if shares[i] >= _LIKELY]


class _Samples(NamedTuple):
    """The samples of all splits of some runs, one after the other."""

    records: list[tuple[str, SplitRecord]]
    """And their folders."""
    sizes: _Integers
    """Of each record's sample."""
    digests: pa.Array
    owners: _Integers
    """Whose each digest is, as a place among the records."""


@functools.lru_cache(maxsize=2)
def _samples(folders: tuple[str, ...]) -> _Samples:
    records = [
        (folder, record)
        for folder in folders
        for _, record in sorted(completed_records(folder).items())
        if record.sample
    ]
    sizes = np.array([len(record.sample) for _, record in records], np.int64)
    content = bytes.fromhex("".join(one for _, record in records for one in record.sample))
    return _Samples(records, sizes, parted(content), np.repeat(np.arange(len(records)), sizes))


def _rows(folder: str, record: SplitRecord, digests: pa.Array) -> tuple[_Integers, _Integers]:
    """The rows of a part whose texts are among those, and which each is."""
    fs, root = open_store(folder)
    content = read_bytes(fs, f"{root}/{digests_path(record.part)}")
    if content is None or hashlib.sha256(content).hexdigest() != record.digests_sha256:
        return _NONE, _NONE
    places = pc.fill_null(pc.index_in(parted(content), value_set=digests), -1).to_numpy()
    rows = np.flatnonzero(places >= 0)
    return rows, places[rows].astype(np.int64)


@functools.lru_cache(maxsize=2)  # neighbouring splits share parts
def _part(folder: str, part: str, sha256: str, tasks: tuple[str, ...]) -> pa.Table | None:
    """The answers of a part; None if it is gone, or no more what was written."""
    fs, root = open_store(folder)
    content = read_bytes(fs, f"{root}/{part}.parquet")
    if content is None or hashlib.sha256(content).hexdigest() != sha256:
        return None
    source = pa.BufferReader(content)
    return pq.read_table(source, columns=list(tasks), use_threads=False).combine_chunks()
