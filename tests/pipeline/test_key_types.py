"""Types of keys over many files: they promote as Arrow promotes them, and no value changes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from column_runs import Label, texts, why, write
from hypothesis import given
from hypothesis import strategies as st
from outputs import current

from glossator.pipeline.inputs.values import check_int96

EPOCH = datetime(1970, 1, 1)
OPEN_END = 253_402_214_400
"""9999-12-31 in seconds; 253,402,214,400 = 2,932,896 days of 86,400 s."""


def int96(path: Path, **columns: pa.Array) -> None:
    count = len(next(iter(columns.values())))
    write(path, {"text": texts(count), **columns}, use_deprecated_int96_timestamps=True)
    types = {pq.ParquetFile(path).schema.column(i).physical_type for i in range(1, 2)}
    assert types == {"INT96"}


def test_int96_of_every_year_is_kept_in_microseconds(tmp_path: Path, label: Label) -> None:
    seconds = [OPEN_END, -62_135_596_800, 0, None, -12_219_292_800, 9_224_318_015, -1]
    int96(tmp_path / "in" / "a.parquet", stamp=pa.array(seconds, pa.timestamp("s")))
    table, rejects = label("--key=stamp")
    assert table.schema.field("stamp").type == pa.timestamp("us")
    want = [None if s is None else EPOCH + timedelta(seconds=s) for s in seconds]
    assert table["stamp"].to_pylist() == want and not rejects
    assert want[0] == datetime(9999, 12, 31)
    out = current(next(tmp_path.glob("out-*")))
    given = duckdb.sql(f"SELECT stamp FROM '{tmp_path}/in/a.parquet'").fetchall()
    assert duckdb.sql(f"SELECT stamp FROM '{out}/*.parquet'").fetchall() == given


def test_int96_with_nanoseconds_keeps_them_and_rejects_what_they_do_not_hold(
    tmp_path: Path, label: Label
) -> None:
    int96(tmp_path / "in" / "a.parquet", at=pa.array([1_001, 2_000, -1], pa.timestamp("ns")))
    int96(tmp_path / "in" / "b.parquet", at=pa.array([OPEN_END, 5], pa.timestamp("s")))
    table, rejects = label("--key=at")
    assert table.schema.field("at").type == pa.timestamp("ns")
    assert table["at"].cast(pa.int64()).to_pylist() == [1_001, 2_000, -1, 5_000_000_000]
    assert why(rejects) == [("b.parquet", 0, "read", "key")]
    assert "at: 9999-12-31T00:00:00" in rejects[0]["detail"] and rejects[0]["at"] is None


def test_int96_that_no_unit_holds_is_a_reject(tmp_path: Path, label: Label) -> None:
    year_300_000 = 300_000 * 31_556_952
    int96(tmp_path / "in" / "a.parquet", at=pa.array([7, year_300_000, 8], pa.timestamp("s")))
    table, rejects = label("--key=at")
    assert table["at"].cast(pa.int64()).to_pylist() == [7_000_000, 8_000_000]
    assert why(rejects) == [("a.parquet", 1, "read", "key")]


def test_int96_within_structs_and_lists(tmp_path: Path, label: Label) -> None:
    ends = pa.array([OPEN_END, 0, None], pa.timestamp("s"))
    span = pa.StructArray.from_arrays([ends, pa.array([1, 2, 3])], names=["end", "n"])
    dates = pa.ListArray.from_arrays([0, 2, 3, 3], ends)
    int96(tmp_path / "in" / "a.parquet", span=span, dates=dates)
    table, _ = label("--key=span", "--key=dates", "--key=span.end")
    last = datetime(9999, 12, 31)
    assert table["span"].to_pylist() == [
        {"end": last, "n": 1},
        {"end": EPOCH, "n": 2},
        {"end": None, "n": 3},
    ]
    assert table["dates"].to_pylist() == [[last, EPOCH], [None], []]
    assert table["span.end"].to_pylist() == [last, EPOCH, None]

    fine = pa.StructArray.from_arrays([pa.array([1, 1_000], pa.timestamp("ns"))], names=["end"])
    int96(tmp_path / "in" / "b.parquet", span=fine, dates=pa.array([[ends[1]], None], dates.type))
    table, rejects = label("--key=span", "--key=dates")
    assert table.schema.field("dates").type.value_type == pa.timestamp("us")
    assert [row["source_row"] for row in rejects] == [0]  # its end is beyond nanoseconds
    spans = table["span"].combine_chunks().field("end").cast(pa.int64()).to_pylist()
    assert spans == [0, None, 1, 1_000]


def test_int96_that_can_not_be_looked_at_while_planning_is_verified_while_reading(
    tmp_path: Path, label: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    int96(tmp_path / "in" / "a.parquet", at=pa.array([1_000, 1_001], pa.timestamp("ns")))

    def fail(*_: object) -> bool:
        raise OSError("the store does not answer")

    monkeypatch.setattr("glossator.pipeline.inputs.resolve._scan", fail)
    table, rejects = label("--key=at")
    assert table["at"].cast(pa.int64()).to_pylist() == [1]
    assert why(rejects) == [("a.parquet", 1, "read", "key")]


BIG = 2**53
KINDS: dict[str, tuple[list[pa.Array], pa.DataType, list[Any], list[int]]] = {
    "int32 and int64": (
        [pa.array([1], pa.int32()), pa.array([2**40, 3])],
        pa.int64(),
        [1, 2**40, 3],
        [],
    ),
    "int64 and double": (
        [pa.array([BIG, BIG + 1, 2 * BIG, None, -7]), pa.array([0.5, math.inf])],
        pa.float64(),
        [float(BIG), float(2 * BIG), None, -7.0, 0.5, math.inf],
        [1],
    ),
    "uint64 and int64": (
        [pa.array([2**64 - 1, 5], pa.uint64()), pa.array([-1, -2, -3])],
        pa.int64(),
        [5, -1, -2, -3],
        [0],
    ),
    "null and string": ([pa.nulls(2), pa.array(["x"])], pa.large_string(), [None, None, "x"], []),
    "strings of all kinds": (
        [
            pa.array(["a"]),
            pa.array(["b"], pa.large_string()),
            pa.array(["c", None]).dictionary_encode(),
            pa.array(["d"], pa.string_view()),
        ],
        pa.large_string(),
        ["a", "b", "c", None, "d"],
        [],
    ),
    "decimals": (
        [pa.array([Decimal("1.25")]), pa.array([Decimal("12345.5")])],
        pa.decimal128(7, 2),
        [Decimal("1.25"), Decimal("12345.50")],
        [],
    ),
    "decimal and double": (
        [pa.array([0.75, 1.5, 2.0]), pa.array([Decimal("0.50"), Decimal("0.10")])],
        pa.float64(),
        [0.75, 1.5, 2.0, 0.5],
        [4],
    ),
    "milliseconds and nanoseconds": (
        [pa.array([1, 253_402_214_400_000], pa.timestamp("ms")), pa.array([3], pa.timestamp("ns"))],
        pa.timestamp("ns"),
        [1_000_000, 3],
        [1],
    ),
    "moments of two zones": (
        [pa.array([1], pa.timestamp("us", "UTC")), pa.array([2], pa.timestamp("us", "Asia/Tokyo"))],
        pa.timestamp("us", "UTC"),
        [1, 2],
        [],
    ),
    "lists of numbers": (
        [pa.array([[1, None], None], pa.list_(pa.int32())), pa.array([[BIG + 1]])],
        pa.list_(pa.int64()),
        [[1, None], None, [BIG + 1]],
        [],
    ),
    "structs of fields": (
        [pa.array([{"a": 1}, None]), pa.array([{"a": 2, "b": "x"}])],
        pa.struct([("a", pa.int64()), ("b", pa.large_string())]),
        [{"a": 1, "b": None}, None, {"a": 2, "b": "x"}],
        [],
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_types_of_keys_promote_and_no_value_changes(
    tmp_path: Path, label: Label, name: str
) -> None:
    columns, kind, values, lost = KINDS[name]
    for i, column in enumerate(columns):
        write(tmp_path / "in" / f"{i}.parquet", {"text": texts(len(column)), "key": column})
    table, rejects = label("--key=key")
    assert table.schema.field("key").type == kind
    kept = table["key"].cast(pa.int64()) if pa.types.is_timestamp(kind) else table["key"]
    assert kept.to_pylist() == values
    rows = [(f"{i}.parquet", row) for i, column in enumerate(columns) for row in range(len(column))]
    assert why(rejects) == [(*rows[i], "read", "key") for i in lost]
    assert all("can't be kept exactly as" in row["detail"] for row in rejects)


LOGICAL = """
    SELECT 'good' AS text, uuid() AS u, '{"a": 1}'::JSON AS j, 1.5::DECIMAL(20, 2) AS d,
    TIME '01:02:03.000004' AS t, TIMESTAMPTZ '2026-01-01' AS tz, TIMESTAMP_NS '2026-01-01' AS ns,
    DATE '9999-12-31' AS da, [1, 2] AS l, MAP {'k': 1} AS m, 200::UTINYINT AS un, 'x'::BLOB AS b,
    {'u': uuid(), 's': 'x'} AS s
"""


def test_logical_types_of_keys_survive(tmp_path: Path, label: Label) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.parquet"
    duckdb.sql(f"COPY ({LOGICAL}) TO '{path}'")
    names = [name for name in pq.read_schema(path).names if name != "text"]
    label(*(f"--key={name}" for name in names))
    assert logical(next(tmp_path.glob("out-*/_runs/*/*.parquet")), names) == logical(path, names)
    out = current(next(tmp_path.glob("out-*")))
    columns = ", ".join(names)
    types = [
        f"SELECT {', '.join(f'typeof({n})' for n in names)} FROM '{p}'"
        for p in (path, f"{out}/*.parquet")
    ]
    assert duckdb.sql(types[0]).fetchall() == duckdb.sql(types[1]).fetchall()
    rows = [
        duckdb.sql(f"SELECT {columns} FROM '{p}'").fetchall() for p in (path, f"{out}/*.parquet")
    ]
    assert rows[0] == rows[1]


def test_types_of_pyarrow_survive(tmp_path: Path, label: Label) -> None:
    columns = {
        "text": texts(2),
        "u": pa.array([b"0123456789abcdef", None], pa.binary(16)).cast(pa.uuid()),
        "j": pa.array(['{"a": 1}', None]).cast(pa.json_()),
        "h": pa.array([1.5, None], pa.float16()),
        "f": pa.array([b"abc", None], pa.binary(3)),
        "t": pa.array([1, None], pa.time64("ns")),
        "w": pa.array([1, None], pa.duration("us")),
        "d": pa.array([Decimal("0." + "1" * 40), None], pa.decimal256(50, 40)),
    }
    path = tmp_path / "in" / "a.parquet"
    write(path, columns)
    names = [name for name in columns if name != "text"]
    table, _ = label(*(f"--key={name}" for name in names))
    assert logical(next(tmp_path.glob("out-*/_runs/*/*.parquet")), names) == logical(path, names)
    given = pq.read_table(path)
    for name in names:
        assert table[name].to_pylist() == given[name].to_pylist()
        assert table[name].type == given[name].type or name == "j"


def test_enum_is_a_string(tmp_path: Path, label: Label) -> None:
    path = tmp_path / "in" / "a.parquet"
    write(path, {"text": texts(2), "e": ["red", "blue"]}, store_schema=False)
    # in Thrift's compact protocol: name "e", converted type UTF8, logical type STRING; then ENUM
    string, enum = b"\x18\x01e%\x00L\x1c\x00\x00\x00", b"\x18\x01e%\x08LL\x00\x00\x00"
    path.write_bytes(path.read_bytes().replace(string, enum))
    assert pq.ParquetFile(path).schema.column(1).logical_type.type == "ENUM"
    table, _ = label("--key=e")
    assert table["e"].to_pylist() == ["red", "blue"]
    query = "SELECT e, typeof(e) FROM '{}' ORDER BY e"
    given = duckdb.sql(query.format(path)).fetchall()
    out = current(next(tmp_path.glob("out-*")))
    assert duckdb.sql(query.format(f"{out}/*.parquet")).fetchall() == given


def test_interval_keeps_its_bytes(tmp_path: Path, label: Label) -> None:
    """PyArrow knows no INTERVAL of Parquet, and so can't name what it writes."""
    path = tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    duckdb.sql(f"COPY (SELECT 'a' AS text, INTERVAL '1 month 2 days 3 ms' AS i) TO '{path}'")
    table, _ = label("--key=i")
    assert table["i"].to_pylist() == [b"".join(n.to_bytes(4, "little") for n in (1, 2, 3))]


def logical(path: Path, names: Sequence[str]) -> dict[str, str]:
    """The logical types of the leaves below columns, as Parquet has them."""
    schema = pq.ParquetFile(path).schema
    leaves = [schema.column(i) for i in range(len(schema))]
    kept = [leaf for leaf in leaves if leaf.path.split(".")[0] in names]
    # what says the width of an int says nothing that its physical type does not
    plain = re.compile(r"Int\(bitWidth=(32|64), isSigned=true\)")
    return {leaf.path: plain.sub("None", str(leaf.logical_type)) for leaf in kept}


def test_same_moment_in_utc(tmp_path: Path, label: Label) -> None:
    moment = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
    write(tmp_path / "in" / "a.parquet", {"text": texts(1), "at": [moment]})
    assert label("--key=at")[0]["at"].to_pylist() == [moment]


UNITS = {"us": 10**6, "ns": 10**9, "s": 1}


@given(
    st.lists(
        st.tuples(st.integers(-2_440_588, 2**32 - 2_440_589), st.integers(0, 86_399_999_999_999))
    )
)
def test_int96_is_judged_as_whole_numbers_would_be(values: list[tuple[int, int]]) -> None:
    moments = [days * 86_400 * 10**9 + nanoseconds for days, nanoseconds in values]
    read = {  # as Arrow computes them: whole units below, modulo 2**64
        unit: pa.array([wrapped(ns * per // 10**9) for ns in moments], pa.timestamp(unit))
        for unit, per in UNITS.items()
    }
    as_us, as_ns = check_int96(read["us"], read["ns"], read["s"])
    assert as_us.tolist() == [ns % 1000 == 0 and fits(ns // 1000) for ns in moments]
    assert as_ns.tolist() == [fits(ns) for ns in moments]


def fits(value: int) -> bool:
    return -(2**63) <= value < 2**63


def wrapped(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
