"""Small files that take much memory: what can be read of them is, and the rest is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile_parquet import FILES

from glossator.pipeline.gates.limits import CHECKS

MAX_BYTES = 1_200_000_000
"""Of the whole process, with the default model and two workers."""
MAX_READ_BYTES = 380 << 20
"""Of a process that reads in one thread, above what it had when it began, libraries included."""

READABLE = {
    "one_text_in_a_dictionary": 2048,
    "one_text_in_each_page": 2048,
    "large_keys": 20_000,
    "large_fixed_keys": 20_000,
    "huge_text": 21,
    "huge_text_in_a_dictionary": 1001,
    "many_huge_texts": 30,
    "huge_blank": 21,
    "huge_undecodable": 21,
    "small_rows_then_large": 1_000_900,
    "huge_footer": 1,
    "huge_statistics": 1,
    "wide": 1,
    "many_row_groups": 4000,
    "shared_prefixes": 1024,
    "dictionary_type": 100,
}
"""Rows of each file, all of which are read."""
REJECTED = {"huge_blank": "empty", "huge_undecodable": "undecodable"}
"""Why one of their rows is a reject."""
TOO_LARGE = {
    "all_texts_in_a_page",
    "page_of_two_gigabytes",
    "page_that_says_two_gigabytes",
    "dictionary_that_says_many",
    "size_said_twice",
    "list_of_nulls",
}
CORRUPT = {"page_that_says_less", "rows_without_data"}
UNREADABLE = {"deep", "many_announced"}
SLOW = {"small_rows_then_large", "one_text_in_each_page", "one_text_in_a_dictionary", "large_keys"}

READ = """
import json, sys
import pyarrow as pa
from glossator.pipeline.gates.limits import CHECKS
from glossator.model.errors import UsageError
from glossator.pipeline.errors import CorruptRange
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.inputs.read import Unread, read

def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))

path, key = sys.argv[1:]
before = memory("VmRSS")
rows, reasons = 0, []
try:
    plan = make_plan([path], text="text", keys=[key], identity="m")
except UsageError as error:
    reasons.append(str(error))
else:
    for split in plan.splits[:40]:
        try:
            for piece in read(split, plan.columns):
                if isinstance(piece, Unread):
                    reasons.append(piece.reason)
                else:
                    rows += len(piece.text)
                    reasons += piece.reason.drop_null().to_pylist()
        except CorruptRange as error:
            reasons.append(error.reason)
print(json.dumps({"rows": rows, "reasons": reasons, "bytes": memory("VmHWM") - before}))
"""


def test_every_file_has_its_outcome() -> None:
    assert READABLE.keys() | TOO_LARGE | CORRUPT | UNREADABLE == FILES.keys()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in FILES]
)
def test_what_a_file_takes_is_bounded(tmp_path: Path, name: str) -> None:
    path = FILES[name](tmp_path / "a.parquet")
    assert path.stat().st_size < 1_000_000
    key = "key" if "key" in name or name == "list_of_nulls" else "id"
    child = subprocess.run(
        [sys.executable, "-c", READ, path, key],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    if name in READABLE:
        expected = [REJECTED[name]] if name in REJECTED else []
        assert (found["rows"], found["reasons"]) == (READABLE[name], expected)
    elif name in UNREADABLE:
        assert found["rows"] == 0 and "can be read as Parquet" in found["reasons"][0]
    else:
        assert set(found["reasons"]) == {"corrupt" if name in CORRUPT else "too large"}
    assert found["bytes"] < MAX_READ_BYTES


MEASURE = """
import json, resource, subprocess, sys
run = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
print(json.dumps({"code": run.returncode, "said": run.stdout.decode(), "bytes": peak}))
"""
"""In a process of its own: a new process begins with the peak of the one that made it."""


def labelled(folder: Path, out: Path, key: str) -> tuple[dict[str, Any], int]:
    """The account of a job with the default model and two workers, and its peak in bytes."""
    command = [sys.executable, "-m", "glossator.pipeline", "--json", "--workers=2", f"--key={key}"]
    command += ["--text=text", "--input", str(folder), "--output", str(out)]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *command, "--max-unreadable=100%", *ACCEPTED],
        capture_output=True,
        text=True,
        timeout=170,
        check=True,
    )
    found = json.loads(measured.stdout)
    assert found["code"] == 0
    return json.loads(found["said"]), found["bytes"]


ACCEPTED = [f"--accept={check}" for check in CHECKS]
"""Such texts are unlike any that a model has seen."""
SOME = ("huge_text", "huge_text_in_a_dictionary", "page_of_two_gigabytes", "shared_prefixes")


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (SOME, "id"),
        pytest.param(tuple(FILES), "id", marks=pytest.mark.slow),
        pytest.param(("large_keys", "large_fixed_keys"), "key", marks=pytest.mark.slow),
    ],
    ids=["some", "all", "keys"],
)
def test_job_with_the_default_model_is_bounded(
    tmp_path: Path, names: tuple[str, ...], key: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        FILES[name](folder / f"{name}.parquet")
    account, peak = labelled(folder, tmp_path / "out", key)
    totals = account["totals"]
    # without its key, that file is harmless
    lists = "list_of_nulls" in names and key != "key"
    assert totals["rows_read"] == sum(READABLE.get(name, 0) for name in names) + lists
    assert totals["files_unreadable"] == len(UNREADABLE & set(names))
    assert totals["rejects"].get("too large", 0) == len(TOO_LARGE & set(names)) - lists
    assert peak < MAX_BYTES, f"{peak:,} bytes"
