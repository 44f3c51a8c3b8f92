"""A reader that looks while publications replace each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from outputs import manifest

from glossator.pipeline.outputs.publish import publish, staging

PUBLICATIONS = 50
PARTS = 6

Read = Callable[[str], set[int]]


def publish_number(out: str, number: int) -> None:
    """A run whose parts have its number in every row, and other names than those of others."""
    run, content = f"{number:016x}", {}
    fs, root = fsspec.core.url_to_fs(staging(out, run))
    fs.makedirs(root, exist_ok=True)
    for index in range(PARTS):
        name = f"part-{index:05d}-{number:012x}.parquet"
        with fs.open(f"{root}/{name}", "wb") as file:
            pq.write_table(pa.table({"run": [number], "part": [index]}), file)
        content[name] = fs.cat_file(f"{root}/{name}")
    publish(out, run, manifest(run, content), keep_seconds=3600)


def by_fsspec(out: str) -> set[int]:
    fs, root = fsspec.core.url_to_fs(out)
    glob = json.loads(fs.cat_file(f"{root}/_current.json"))["parts"]
    found = fs.glob(f"{root}/{glob}")
    tables = [pq.read_table(fs.open(path)) for path in found]
    assert sorted(table["part"][0].as_py() for table in tables) == list(range(PARTS))
    return {table["run"][0].as_py() for table in tables}


def poll(out: str, read: Read) -> list[int]:
    """What a reader sees, one after the other, until all is published."""
    publish_number(out, 0)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [publish_number(out, i) for i in range(1, PUBLICATIONS)])
        seen: list[int] = []
        while not writing.done():
            (run,) = read(out)
            seen.append(run)
        writing.result()
    (last,) = read(out)
    return [*seen, last]
