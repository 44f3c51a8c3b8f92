"""Folders that are no plain input: outputs of ours, and tables of Delta, Iceberg and Hudi."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glossator.model.errors import UsageError
from glossator.pipeline.inputs import markers
from glossator.pipeline.inputs.discover import Found, discover
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.outputs import publish
from glossator.pipeline.outputs.current import CURRENT as CURRENT_NAME
from glossator.pipeline.outputs.manifest import MANIFEST as MANIFEST_NAME

Put = Callable[[str, bytes], str]
CURRENT = b'{"format": "glossator-current-1", "run": "0123456789abcdef"}'
MANIFEST = b'{\n "format": "glossator-output-2",\n "run_id": "0123456789abcdef"}'
PARQUET = pa.BufferOutputStream()
pq.write_table(pa.table({"text": ["hello"]}), PARQUET)
DATA = PARQUET.getvalue().to_pybytes()


@pytest.fixture(params=["local", "memory"])
def put(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Put]:
    """Writes a file; gives its URI."""
    kind = request.param
    fs = fsspec.filesystem("file" if kind == "local" else kind)
    root = str(tmp_path) if kind == "local" else "/markers"

    def write(name: str, content: bytes = DATA) -> str:
        path = f"{root}/{name}"
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, content)
        return path if kind == "local" else f"memory:/{path}"

    yield write
    if kind != "local" and fs.exists(root):
        fs.rm(root, recursive=True)


def root_of(put: Put) -> str:
    return put("in/a.parquet", DATA).removesuffix("/a.parquet")


def found(item: str, **options: object) -> Found:
    return discover([item], **options)  # type: ignore[arg-type]


def names(result: Found) -> list[str]:
    return [file.path.partition("/in/")[2] for file in result.files]


OUTPUTS = {
    "published": {"_current.json": CURRENT, "_runs/0123456789abcdef/part-00000-a.parquet": DATA},
    "run": {"part-00000-0123456789ab.parquet": DATA, "_manifest.json": MANIFEST},
    "begun": {"_runs/0123456789abcdef/part-00000-a.parquet": DATA},
}


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("where", ["labels", "labels/2026-11-24"])
def test_output_of_ours_is_never_read(kind: str, where: str, put: Put) -> None:
    root = root_of(put)
    for name, content in OUTPUTS[kind].items():
        put(f"in/{where}/{name}", content)
    for item in (root, f"{root}/**/*.parquet", f"{root}/*", f"{root}/**"):
        result = found(item)
        assert names(result) == ["a.parquet"]
        assert result.skipped == {"output of Glossator": 1}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_output_of_ours_is_no_input(kind: str, put: Put) -> None:
    root = root_of(put)
    for name, content in OUTPUTS[kind].items():
        part = put(f"in/labels/{name}", content)
    rejects = put("in/labels/_rejects/part-00000-a.parquet", DATA)
    items = [f"{root}/labels", f"{root}/labels/*.parquet", part]
    if kind != "begun":
        items += [rejects, f"{root}/labels/_rejects", f"{root}/labels/_rejects/*"]
    for item in items:
        with pytest.raises(UsageError, match=r"is an output of Glossator: name the comments"):
            found(item)


def test_output_of_this_run_is_never_read(put: Put) -> None:
    """Whatever is in it: another program may write there, or a run that is still at work."""
    root = root_of(put)
    put("in/labels/part-00000-a.parquet", DATA)
    put("in/labels-of-old/b.parquet", DATA)
    out = f"{root}/labels"
    for item in (root, f"{root}/**/*.parquet"):
        result = found(item, output=out)
        assert names(result) == ["a.parquet", "labels-of-old/b.parquet"]
        assert result.skipped == {"output of Glossator": 1}
    for item in (out, f"{out}/*.parquet", f"{out}/part-00000-a.parquet"):
        with pytest.raises(UsageError, match="lies in the output of this run: choose another"):
            found(item, output=out)
    with pytest.raises(UsageError, match="lies in the output of this run"):
        found(root, output=root)
    with pytest.raises(UsageError, match="lies in the output of this run"):
        found(root, output=root.rpartition("/")[0])


def test_output_is_known_through_links(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").write_bytes(DATA)
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-00000-a.parquet").write_bytes(DATA)
    (tmp_path / "in" / "folder").symlink_to(out)
    (tmp_path / "in" / "part.parquet").symlink_to(out / "part-00000-a.parquet")
    result = found(str(tmp_path / "in"), output=str(out))
    assert (names(result), result.skipped) == (["a.parquet"], {"output of Glossator": 2})
    with pytest.raises(UsageError, match="lies in the output of this run"):
        found(str(tmp_path / "in" / "folder"), output=str(out))
    (out / "_manifest.json").write_bytes(MANIFEST)
    result = found(str(tmp_path / "in"))
    assert (names(result), result.skipped) == (["a.parquet"], {"output of Glossator": 2})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("_manifest.json", b'{"format": "of something else"}'),
        ("_current.json", b'{"title": "Current affairs"}'),
        ("_runs/notes.txt", b"mine"),
        ("_runs/0123456789abcdef/x", b"beside files that anyone can see"),
    ],
)
def test_names_of_ours_with_other_content_prove_nothing(
    name: str, content: bytes, put: Put
) -> None:
    root = root_of(put)
    put("in/day/b.parquet", DATA)
    put(f"in/day/{name}", content)
    assert names(found(root)) == ["a.parquet", "day/b.parquet"]
    assert names(found(f"{root}/day")) == ["day/b.parquet"]


TABLES = {
    "Delta Lake": (
        "_delta_log/00000000000000000000.json",
        "part-0.snappy.parquet",
        "x=1/b.parquet",
    ),
    "Iceberg": ("metadata/v1.metadata.json", "data/a.parquet", "data/x=1/b.parquet"),
    "Hudi": (".hoodie/hoodie.properties", "a.parquet", "x=1/b.parquet"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_table_is_not_read_as_plain_files(kind: str, put: Put) -> None:
    marker, *files = TABLES[kind]
    put(f"in/table/{marker}", b"{}")
    for name in files:
        put(f"in/table/{name}", DATA)
    root = root_of(put)
    table = f"{root}/table"
    below = f"{table}/{files[1].rpartition('/')[0]}"
    items = [root, table, below, f"{table}/{files[0]}", f"{table}/{files[1]}"]
    items += [f"{root}/*", f"{root}/**/*.parquet", f"{root}/t*/x=*/*", f"{below}/*.parquet"]
    for item in items:
        if kind == "Iceberg" and "x=*" in item:
            continue
        with pytest.raises(UsageError, match=rf"table is a table of {kind}.*table_files") as error:
            found(item)
        assert error.value.parameter == "inputs"
    assert names(found(root, table_files=True)) == [
        "a.parquet",
        *sorted(f"table/{n}" for n in files),
    ]
    assert names(found(f"{root}/*.parquet")) == ["a.parquet"]


def test_link_into_a_table(tmp_path: Path) -> None:
    table = tmp_path / "table"
    (table / "_delta_log").mkdir(parents=True)
    (table / "x=1").mkdir()
    (table / "x=1" / "a.parquet").write_bytes(DATA)
    (tmp_path / "in").mkdir()
    for target in (table, table / "x=1", table / "x=1" / "a.parquet"):
        link = tmp_path / "in" / "link.parquet"
        link.symlink_to(target)
        for item in (tmp_path / "in", tmp_path / "in" / "**", link):
            with pytest.raises(UsageError, match="is a table of Delta Lake"):
                found(str(item))
        link.unlink()


def test_folder_called_metadata_is_no_table(put: Put) -> None:
    root = root_of(put)
    put("in/metadata/readme.json", b"{}")
    put("in/_delta_log", b"a file")
    result = found(root)
    assert names(result) == ["a.parquet"]
    assert result.skipped == {"hidden": 1, "not Parquet": 1}


def test_above_what_may_be_listed_nothing_is_known(
    put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(put)
    fs = type(fsspec.filesystem("memory"))
    info = fs.info

    def guarded(self: object, path: str, **options: object) -> object:
        if not path.startswith(("/markers/in", "memory://")):
            raise PermissionError(path)
        return info(self, path, **options)

    monkeypatch.setattr(fs, "info", guarded)
    assert names(found(root)) == ["a.parquet"]


def test_run_that_has_just_begun(tmp_path: Path) -> None:
    """As the job begins it, and as it publishes it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").write_bytes(DATA)
    plan = make_plan([str(tmp_path / "in")], text=None, keys=(), identity="m")
    publish.begin(str(tmp_path / "in" / "labels"), plan)
    assert found(str(tmp_path / "in")).skipped == {"output of Glossator": 1}
    with pytest.raises(UsageError, match="is an output of Glossator"):
        found(str(tmp_path / "in" / "labels"))
    assert set(markers.CONTENT) == {MANIFEST_NAME, CURRENT_NAME}
