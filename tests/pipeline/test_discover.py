"""Which files are read: the same for a folder, a glob and a file, here and in other stores."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from glossator.model.errors import UsageError
from glossator.pipeline.inputs.discover import Found, discover
from glossator.pipeline.inputs.plan import make_plan


def write(path: Path, rows: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": [f"{path.name} {i}" for i in range(rows)]}), path)
    return path


def touch(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(found: Found, root: object) -> list[str]:
    return [file.uri.removeprefix(f"{root}/") for file in found.files]


def found(*inputs: object, **options: object) -> Found:
    return discover([str(item) for item in inputs], **options)  # type: ignore[arg-type]


class FlatStore(MemoryFileSystem):  # type: ignore[misc]
    """A store of objects: one listing has all below a prefix; counts the questions to it."""

    protocol = "flat"
    asked: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("flat://", "memory://")))

    def find(self, path: str, *args: object, **options: object) -> object:
        self.asked.append(f"find {path}")
        listing = [name for name in sorted(self.store) if name.startswith(f"{path}/")]
        return {name: super(FlatStore, self).info(name) for name in listing}

    def ls(self, path: str, *args: object, **options: object) -> object:
        self.asked.append(f"ls {path}")
        return super().ls(path, *args, **options)


class WalkedStore(MemoryFileSystem):  # type: ignore[misc]
    """A store of folders, of which fsspec lists one after the other; some may not be listed."""

    protocol = "walked"
    find = AbstractFileSystem.find

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("walked://", "memory://")))

    def ls(self, path: str, *args: object, **options: object) -> object:
        if path.rstrip("/").endswith("/secret"):
            raise PermissionError(path)
        return super().ls(path, *args, **options)


fsspec.register_implementation("flat", FlatStore, clobber=True)
fsspec.register_implementation("walked", WalkedStore, clobber=True)


@pytest.fixture(params=["local", "memory", "flat", "walked"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[object]:
    """Puts a local folder where the test reads it; gives a function that does, and its URI."""
    kind = request.param

    def put(folder: Path) -> str:
        if kind == "local":
            return str(folder)
        fs = fsspec.filesystem(kind)
        root = f"/discover{folder}"
        for path in folder.rglob("*"):
            if path.is_file():
                fs.pipe_file(f"{root}/{path.relative_to(folder)}", path.read_bytes())
        return f"{kind}://{root}"

    yield put
    if kind != "local":
        fs = fsspec.filesystem(kind)
        if fs.exists("/discover"):
            fs.rm("/discover", recursive=True)


Put = object


def test_folder_glob_and_files_have_one_rule(store: Put, tmp_path: Path) -> None:
    """As DuckDB reads all the files that are not hidden, by their magic."""
    root = tmp_path / "in"
    seen = [
        "year=2025/a.parquet",
        "_year=2026/b.parquet",
        "c.PARQUET",
        "d.parq",
        "e.pq",
        "000000_0",
        "deep/er/f.snappy",
    ]
    for name in seen:
        write(root / name)
    for name in ("_rejects/x.parquet", ".g.parquet", "_h.parquet", "deep/_temporary/0/i.parquet"):
        write(root / name)
    write(root / "j.parquet._COPYING_")
    touch(root / "_SUCCESS")
    touch(root / "deep_$folder$")
    touch(root / "notes.txt", b"not data")
    touch(root / "deep/data.csv", b"text\nhello\n")
    uri = store(root)  # type: ignore[operator]
    for item in (uri, f"{uri}/**", f"{uri}/*"):
        result = found(item)
        assert sorted(file.path.split("/in/")[1] for file in result.files) == sorted(seen), item
        assert result.skipped == {"empty": 1, "hidden": 6, "not Parquet": 2}, item
    result = found(f"{uri}/**/*.parquet")
    assert [file.path.split("/in/")[1] for file in result.files] == [
        "_year=2026/b.parquet",
        "year=2025/a.parquet",
    ]
    for name in (*seen, ".g.parquet", "_rejects/x.parquet", "notes.txt"):  # named itself: tried
        (file,) = found(f"{uri}/{name}").files
        assert file.path.endswith(f"/in/{name}")


def test_rows_are_those_of_duckdb(tmp_path: Path) -> None:
    for i, name in enumerate(
        ("year=2025/a.parquet", "_year=2026/b.parquet", "year=2027/c.parquet")
    ):
        write(tmp_path / name, rows=10**i)
    sources = make_plan([str(tmp_path)], text=None, keys=(), identity="m").sources
    query = f"select count(*) from read_parquet('{tmp_path}/*/*.parquet')"
    ((expected,),) = duckdb.sql(query).fetchall()
    assert sum(source.rows for source in sources) == expected == 111


def test_partition_folders_without_underscore_are_those_of_pyarrow(tmp_path: Path) -> None:
    for name in ("x=1/a.parquet", "x=2/.b.parquet", "x=2/_c.parquet", "_d/e.parquet", "f.parquet"):
        write(tmp_path / name)
    expected = sorted(ds.dataset(tmp_path, format="parquet").files)
    assert [file.path for file in found(tmp_path).files] == expected


def test_inputs_are_found_once_in_order(tmp_path: Path) -> None:
    for name in ["b.parquet", "a.parquet", "x/c.parquet", "_rejects/d.parquet", ".e.parquet"]:
        write(tmp_path / name)
    visible = ["a.parquet", "b.parquet", "x/c.parquet"]

    def of(*inputs: object) -> list[str]:
        return names(found(*inputs), tmp_path)

    assert of(tmp_path) == visible
    assert of(tmp_path, tmp_path / "b.parquet", tmp_path / "*.parquet") == visible
    assert found(tmp_path, tmp_path / "b.parquet").skipped == {"duplicate": 1, "hidden": 2}
    assert of(tmp_path / "*.parquet") == visible[:2]
    assert of(tmp_path / "**" / "*.parquet") == visible
    assert of(tmp_path / "?") == visible[2:]
    assert of(tmp_path / "[ab].parquet") == visible[:2]
    assert of(tmp_path / "**" / "x") == visible[2:]
    assert of(tmp_path / "_rejects" / "*.parquet") == ["_rejects/d.parquet"]
    assert of(tmp_path / "**" / "_rejects" / "*") == ["_rejects/d.parquet"]
    assert of(tmp_path / ".e*") == [".e.parquet"]
    assert of(tmp_path / "_rejects") == ["_rejects/d.parquet"]
    assert of(f"file://{tmp_path}/a.parquet") == visible[:1]


def test_glob_lists_only_what_can_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(1, 4):
        write(tmp_path / f"2026-11-0{day}" / "deep" / "a.parquet")
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(str(path)), scandir(path))[1])
    assert len(found(tmp_path / "2026-11-0[12]" / "*" / "*.parquet").files) == 2
    assert not [path for path in listed if "2026-11-03" in path]


@pytest.mark.parametrize("name", ["a[1].parquet", "std::string.parquet", "a*.parquet", "zip::x"])
def test_name_with_special_characters(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "in" / name, rows=2)
    for item in (path, path.parent, path.parent / "*"):
        (source,) = make_plan([str(item)], text=None, keys=(), identity="m").sources
        assert (source.uri, source.rows) == (str(path), 2)


def test_links_to_files_and_folders_are_followed_alike(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "deep" / "a.parquet", rows=5)
    write(tmp_path / "b" / "b.parquet", rows=7)
    root = tmp_path / "in"
    root.mkdir()
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "file.parquet").symlink_to(tmp_path / "b" / "b.parquet")
    expected = ["file.parquet", "folder/deep/a.parquet"]
    for item in (root, root / "**" / "*.parquet", root / "*"):
        assert names(found(item), root) == expected
    assert names(found(root / "*" / "*" / "*.parquet"), root) == expected[1:]
    assert names(found(root / "folder"), root) == expected[1:]
    sources = make_plan([str(root)], text=None, keys=(), identity="m").sources
    assert [source.rows for source in sources] == [7, 5]


def test_file_that_is_reached_twice_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "in" / "days" / "a.parquet")
    (tmp_path / "in" / "alias").symlink_to("days")
    (tmp_path / "in" / "z.parquet").symlink_to("days/a.parquet")
    (tmp_path / "other").symlink_to("in")
    for inputs in (["in"], ["in/**"], ["other", "in"], ["in", "other"], ["in/z.parquet", "in"]):
        result = found(*(tmp_path / item for item in inputs))
        assert names(result, tmp_path) == ["in/days/a.parquet"], inputs
        assert result.skipped["duplicate"] >= 1
    assert names(found(tmp_path / "in" / "z.parquet"), tmp_path) == ["in/z.parquet"]


def test_glob_of_a_linked_folder_is_not_taken_for_seen(tmp_path: Path) -> None:
    """The target is listed for another name, which does not match the pattern."""
    write(tmp_path / "in" / "e1" / "x.parquet")
    (tmp_path / "in" / "d1").symlink_to("e1")
    assert names(found(tmp_path / "in" / "d*" / "*.parquet"), tmp_path) == ["in/d1/x.parquet"]


@pytest.mark.parametrize("pattern", ["", "**", "**/*.parquet", "*"])
def test_loops_of_links_end(pattern: str, tmp_path: Path) -> None:
    root = tmp_path / "in"
    write(root / "a.parquet")
    for i in range(12):  # each level links to the next one twice: 4,096 ways to the last
        (root / str(i)).mkdir()
        for name in "xy":
            (root / str(i) / name).symlink_to(root / str(i + 1))
        (root / str(i) / "up").symlink_to(root)
    (root / "itself").symlink_to("itself")
    result = found(root / pattern if pattern else root)
    assert names(result, root) == ["a.parquet"]


def test_dangling_link(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet")
    (tmp_path / "in" / "b.parquet").symlink_to("gone/b.parquet")
    (tmp_path / "in" / "c.txt").symlink_to("gone")
    result = found(tmp_path / "in")
    assert result.skipped == {"link to nothing": 1}
    plan = make_plan([str(tmp_path / "in")], text=None, keys=(), identity="m")
    assert [source.error for source in plan.sources] == [
        None,
        "is a link to nothing: gone/b.parquet is not there",
    ]
    for name in ("b.parquet", "c.txt"):
        with pytest.raises(UsageError, match=rf"{name}: is a link to nothing: gone"):
            found(tmp_path / "in" / name)
    (tmp_path / "in" / "a.parquet").unlink()
    with pytest.raises(UsageError, match=r"none of the 1 input files .*b\.parquet: is a link to"):
        make_plan([str(tmp_path / "in")], text=None, keys=(), identity="m")


def test_pipe_is_never_opened(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    os.mkfifo(tmp_path / "b.parquet")
    assert found(tmp_path).skipped == {"neither file nor folder": 1}
    with pytest.raises(UsageError, match=r"b\.parquet: is neither a file nor a folder"):
        found(tmp_path / "b.parquet")


def test_folder_that_may_not_be_listed_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet")
    write(tmp_path / "deep" / "secret" / "b.parquet")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if "secret" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    for item in (tmp_path, tmp_path / "**" / "*.parquet", tmp_path / "*"):
        with pytest.raises(UsageError, match=r"access denied.*check the permissions"):
            found(item)


def test_remote_folder_that_may_not_be_listed_is_not_passed_over(tmp_path: Path) -> None:
    """fsspec's own walk leaves out what it may not see."""
    fs = fsspec.filesystem("walked")
    data = write(tmp_path / "a.parquet").read_bytes()
    fs.pipe_file("/denied/in/a.parquet", data)
    fs.pipe_file("/denied/in/secret/b.parquet", data)
    try:
        assert fs.find("/denied/in") == ["/denied/in/a.parquet"]
        for item in ("walked://denied/in", "walked://denied/in/**/*.parquet"):
            with pytest.raises(UsageError, match="access denied"):
                found(item)
    finally:
        fs.rm_file("/denied/in/a.parquet")
        fs.rm_file("/denied/in/secret/b.parquet")


def test_no_match_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    (tmp_path / "empty").mkdir()
    for name in ("b.parquet", "b*.parquet", "empty", "none/*.parquet", "a.parquet/x", "x" * 300):
        with pytest.raises(UsageError, match=r"no Parquet file is there: check the spell") as error:
            found(tmp_path / "a.parquet", tmp_path / name)
        assert error.value.parameter == "inputs"
    touch(tmp_path / "csv" / "x.csv", b"a,b")
    touch(tmp_path / "csv" / ".hidden", b"a,b")
    with pytest.raises(UsageError, match=r"there \(skipped: 1 hidden, 1 not Parquet\): check"):
        found(tmp_path / "csv")
    with pytest.raises(UsageError, match="no input was given"):
        found()
    with pytest.raises(UsageError, match="foo://x: Protocol not known"):
        found("foo://x")
    with pytest.raises(UsageError, match="no such archive is there"):
        found(f"zip://a.parquet::{tmp_path}/none.zip")


def test_archive_and_cache_can_be_opened_again(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", rows=3)
    archive = shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "in")
    for item in (f"zip://::{archive}", f"zip://*.parquet::file://{archive}"):
        (file,) = found(item).files
        with fsspec.open(file.location) as opened:
            assert pq.read_metadata(opened).num_rows == 3


def test_object_store_is_listed_once(tmp_path: Path) -> None:
    fs = fsspec.filesystem("flat")
    data = write(tmp_path / "a.parquet").read_bytes()
    for day in range(30):
        fs.pipe_file(f"/once/in/day={day:02d}/a.parquet", data)
    fs.pipe_file("/once/in/", b"")  # stands for the folder
    FlatStore.asked.clear()
    try:
        assert len(found("flat://once/in").files) == 30
        assert FlatStore.asked.count("find /once/in") == 1
        below = [question for question in FlatStore.asked if "day=" in question]
        assert below == []
        fs.rm_file("/once/in/")
        assert len(found("flat://once/in/*/*.parquet").files) == 30
    finally:
        fs.rm("/once", recursive=True)


@pytest.mark.parametrize("entries", [["_SUCCESS"], ["_SUCCESS", "_metadata", ".crc", "sub/_x"]])
def test_folder_with_a_success_marker_alone_is_an_empty_day(
    store: Put, entries: list[str], tmp_path: Path
) -> None:
    for name in entries:
        touch(tmp_path / "day" / name)
    uri = store(tmp_path / "day")  # type: ignore[operator]
    for item in (uri, f"{uri}/*.parquet", f"{uri}/**/*.parquet"):
        result = found(item)
        assert result.files == () and result.empty == (item,)


def test_success_marker_beside_other_files_is_no_empty_day(tmp_path: Path) -> None:
    touch(tmp_path / "day" / "_SUCCESS")
    touch(tmp_path / "day" / "data.csv", b"a,b\n")
    for item in (tmp_path / "day", tmp_path / "day" / "*.parquet"):
        with pytest.raises(UsageError, match="no Parquet file is there"):
            found(item)


def test_empty_day_beside_others(tmp_path: Path) -> None:
    touch(tmp_path / "1" / "_SUCCESS")
    write(tmp_path / "2" / "a.parquet")
    result = found(tmp_path / "1", tmp_path / "2")
    assert (names(result, tmp_path), result.empty) == (["2/a.parquet"], (str(tmp_path / "1"),))
    assert names(found(tmp_path), tmp_path) == ["2/a.parquet"]


def test_plan_of_an_empty_day(tmp_path: Path) -> None:
    touch(tmp_path / "_SUCCESS")
    plan = make_plan([str(tmp_path)], text="body", keys=("id",), identity="m")
    (split,) = plan.splits
    assert (plan.sources, split.ranges, split.rows) == ((), (), 0)
    assert plan.columns.text == "body"
    assert plan.columns.keys == pa.schema({"id": pa.null()})
    assert plan.empty == (str(tmp_path),)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("memory://secret/in/a.parquet?token=1", "memory://secret/in/a.parquet?token=2"),
        ("memory://secret/u:1@x/a.parquet", "memory://secret/u:2@x/a.parquet"),
    ],
)
def test_secrets_stay_out_of_the_plan(one: str, other: str, tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    data = write(tmp_path / "a.parquet").read_bytes()
    fs.pipe_file(one.removeprefix("memory:/"), data)
    fs.pipe_file(other.removeprefix("memory:/"), data)
    try:
        result = found(one)
        (file,) = result.files
        if "token" in one:
            assert "token=REDACTED" in file.uri and file.location.endswith("token=1")
            assert result.locations == {file.uri: file.location}
            with pytest.raises(UsageError, match=r"token=REDACTED: two inputs are the same but"):
                found(one, other)
        else:  # a path of a store without users
            assert len(found(one, other).files) == 2
    finally:
        fs.rm("/secret", recursive=True)


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.parquet", rows=3)
    odd = os.fsencode(path.parent) + b"/b\xff.parquet"
    os.rename(path, odd)  # noqa: PTH104
    for item in (path.parent, path.parent / "*.parquet", os.fsdecode(odd)):
        plan = make_plan([str(item)], text=None, keys=(), identity="m")
        (source,) = plan.sources
        assert (source.uri, source.rows) == (f"{path.parent}/b\\xff.parquet", 3)
        assert plan.locations == {source.uri: os.fsdecode(odd)}
    shutil.copy(odd, path.parent / "b\\xff.parquet")
    with pytest.raises(UsageError, match="two inputs are the same"):
        found(path.parent)
