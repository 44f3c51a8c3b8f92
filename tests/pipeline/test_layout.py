"""What lies in an output folder and is not ours: links, others' files, damaged and forged ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from outputs import NEW, NEW_RUN, OLD, OLD_RUN, manifest, part, read, stage, tree
from sample_comments import make_comments, write_comments

from glossator.model.errors import UsageError
from glossator.pipeline.errors import JobError
from glossator.pipeline.outputs.lock import lock
from glossator.pipeline.outputs.publish import (
    begin,
    check_output,
    publish,
    published,
    settle,
    staging,
)
from glossator.pipeline.outputs.staging import PLANS, completed_records, load_plan, save_plan


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output with the old run published and the new one staged."""
    out = tmp_path / "out"
    publish(str(out), OLD_RUN, stage(str(out), OLD_RUN, OLD))
    stage(str(out), NEW_RUN, NEW)
    return out


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Somebody else's folder."""
    victim = tmp_path / "victim"
    for name in ("theirs", NEW_RUN, f"{NEW_RUN}/{part(0, 'a')}", "_records/x.json"):
        path = victim / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "." in name or name == "theirs":
            path.write_bytes(b"precious")
    return victim


def publish_new(out: Path) -> None:
    publish(str(out), NEW_RUN, manifest(NEW_RUN, NEW))


LINKS = (
    "_runs",
    "_current.json",
    "_lease.json",
    "_SUCCESS",
    f"_runs/{NEW_RUN}",
    f"_runs/{NEW_RUN}/_manifest.json",
    f"_runs/{NEW_RUN}/_rejects/{part(0, 'b')}",
    f"_runs/{NEW_RUN}/_rejects",
    f"_runs/{NEW_RUN}/_records",
    f"_runs/{NEW_RUN}/{part(0, 'a')}",
    f"_runs/{NEW_RUN}/_plan.json",
    "_runs/_glossator.json",
)


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("target", [".", "theirs"])
def test_no_link_is_followed(name: str, target: str, out: Path, victim: Path) -> None:
    """Whether it leads to a folder or to a file, and whoever is about to follow it."""
    link = out / name
    if link.is_dir():
        shutil.rmtree(link)
    else:
        link.unlink(missing_ok=True)
    link.symlink_to(victim / target)
    before, others = tree(victim), tree(out)
    with pytest.raises(UsageError, match=r"is a symbolic link"):
        publish_new(out)
    assert tree(victim) == before and tree(out) == others
    if not name.startswith(f"_runs/{NEW_RUN}"):
        with pytest.raises(UsageError, match="is a symbolic link") as caught:
            check_output(str(out))
        assert caught.value.parameter == "output" and name in str(caught.value)


def test_no_link_is_followed_while_clearing_up(out: Path, victim: Path) -> None:
    """A run's own folder goes with the links in it, and nothing that they lead to."""
    old = out / "_runs" / ("d" * 16)
    (old / "deep").mkdir(parents=True)
    (old / "_plan.json").write_text(json.dumps({"run_id": "d" * 16}))
    for link in (old / "link", old / "deep" / "link", out / "_runs" / "link"):
        link.symlink_to(victim)
    before = tree(victim)
    publish_new(out)
    assert tree(victim) == before
    assert not old.exists() and (out / "_runs" / "link").is_symlink()


def test_the_output_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "disk")
    with lock(str(out)):
        check_output(str(out))
        publish(str(out), NEW_RUN, stage(str(out), NEW_RUN, NEW))
    assert read(tmp_path / "disk") == NEW


def hard_link(path: Path, victim: Path) -> None:
    os.link(victim / "theirs", path)


@pytest.mark.parametrize(
    "put",
    [
        lambda path, victim: path.symlink_to(victim / "theirs"),
        lambda path, victim: path.symlink_to(victim / "new"),
        hard_link,
        lambda path, victim: path.mkdir(),
        lambda path, victim: os.mkfifo(path),  # whose reader would wait for ever
        lambda path, victim: path.write_text("not a number"),
    ],
    ids=["link", "dangling link", "hard link", "folder", "pipe", "text"],
)
def test_the_lock_is_not_written_where_something_else_is(
    put: Callable[[Path, Path], object], out: Path, victim: Path
) -> None:
    put(out / "_runs" / ".lock", victim)
    before = tree(victim)
    words = r"_runs/\.lock: is not a lock of Glossator's"
    with pytest.raises(UsageError, match=words), lock(str(out)):
        pass
    assert tree(victim) == before


def test_what_others_put_into_staging_stays_and_is_reported(out: Path, plan: Any) -> None:
    """A folder of theirs may even be called as a run of ours."""
    theirs = {
        "notes.txt": b"mine",
        "spark/part-0": b"mine",
        f"{'e' * 16}/data.csv": b"mine",
        f"{'f' * 16}/_plan.json": json.dumps({"run_id": "0" * 16}).encode(),
        f"{'f' * 16}/data.csv": b"mine",
    }
    for name, data in theirs.items():
        (out / "_runs" / name).parent.mkdir(exist_ok=True)
        (out / "_runs" / name).write_bytes(data)
    with lock(str(out)):
        assert begin(str(out), plan) == ["e" * 16, "f" * 16, "notes.txt", "spark"]
        publish_new(out)
    assert read(out) == NEW
    left = {k: v for k, v in tree(out / "_runs").items() if v is not None}
    ours = tuple(f"{run}/" for run in (OLD_RUN, NEW_RUN))
    assert {name: data for name, data in left.items() if not name.startswith(ours)} == theirs


def test_a_folder_that_others_made_is_not_an_output(tmp_path: Path) -> None:
    (tmp_path / "_runs" / ("e" * 16)).mkdir(parents=True)
    (tmp_path / "_runs" / ("e" * 16) / "data.csv").touch()
    with pytest.raises(UsageError, match="holds files that glossator did not write"):
        check_output(str(tmp_path))


@pytest.mark.parametrize("left", ["nothing", "plan", "records", "unfinished"])
def test_what_killed_runs_left_goes_at_the_next_publication(left: str, out: Path) -> None:
    """Whatever they had come to; those of earlier versions have no mark in staging."""
    run = out / "_runs" / ("d" * 16)
    run.mkdir()
    if left == "plan":
        (run / "_plan.json").write_text(json.dumps({"run_id": "d" * 16}))
        (run / "whatever").touch()
    if left == "records":
        for name in (
            "_records/x.json",
            "_workers/y.json",
            f"_rejects/{part(1, 'c')}",
            part(2, "c"),
        ):
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).touch()
    if left == "unfinished":
        (run / f"._plan.json.{'0' * 32}.tmp").touch()
    check_output(str(out))
    publish_new(out)
    assert read(out) == NEW and not run.exists()


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    """Of a file of one split."""
    from glossator.pipeline.inputs.plan import make_plan

    path = write_comments(tmp_path / "in.parquet", make_comments(5))
    return make_plan([str(path)], text=None, keys=["id"], identity="x")


def test_the_runs_carry_our_mark(tmp_path: Path, plan: Any) -> None:
    for out in (str(tmp_path / "out"), "memory://marked/out"):
        fs, root = fsspec.core.url_to_fs(out)
        assert begin(out, plan) == []
        mark = json.loads(fs.cat_file(f"{root}/_runs/_glossator.json"))
        assert mark == {"format": "glossator-runs-1", "owner": "glossator"}
        PLANS.forget()  # what is written is read
        assert load_plan(staging(out, plan.run_id)) == plan
        check_output(out)
        publish(out, plan.run_id, manifest(plan.run_id, {}))
        assert {path.rpartition("_runs/")[2] for path in fs.find(f"{root}/_runs")} == {
            "_glossator.json",
            f"{plan.run_id}/_manifest.json",
            f"{plan.run_id}/_records.json",
        }
    fsspec.filesystem("memory").rm("/marked", recursive=True)


def test_a_mark_that_is_not_ours_is_refused(out: Path, plan: Any) -> None:
    (out / "_runs" / "_glossator.json").write_text('{"format": "glossator-runs-9"}')
    with pytest.raises(
        UsageError, match=r"_glossator\.json: does not say that this folder is ours"
    ):
        begin(str(out), plan)


def pointer(**changes: Any) -> bytes:
    """The text of a `_current.json` of the new run, with some fields changed."""
    return json.dumps({"format": "glossator-current-1", "run": NEW_RUN, **changes}).encode()


POINTERS = {
    "empty": b"",
    "cut": pointer()[:40],
    "list": b"[]",
    "binary": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "format": pointer(format="glossator-current-9"),
    "number": pointer(run=7),
    "escape": pointer(run="../../victim"),
    "absolute": pointer(run="/etc"),
    "short": pointer(run="bbbb"),
    "newline": pointer(run=f"{NEW_RUN}\n"),
    "token": pointer(token=-1),
    "more": pointer(then=1),
}


@pytest.mark.parametrize("content", POINTERS.values(), ids=POINTERS)
def test_what_is_current_is_validated_before_it_is_believed(
    content: bytes, out: Path, victim: Path
) -> None:
    (victim / "_manifest.json").write_text(manifest(NEW_RUN, NEW).to_json())
    (out / "_current.json").write_bytes(content)
    before = (tree(out), tree(victim))
    for action in (check_output, published, settle, lambda o: publish_new(Path(o))):
        with pytest.raises(
            UsageError, match=r"out/_current\.json: is damaged: .*: put it back .*, or remove it"
        ):
            action(str(out))
    assert (tree(out), tree(victim)) == before
    (out / "_current.json").unlink()  # the remedy
    publish_new(out)
    assert read(out) == NEW


def forged(**changes: Any) -> str:
    """The text of the new run's manifest with some fields changed."""
    return json.dumps({**json.loads(manifest(NEW_RUN, NEW).to_json()), **changes})


def file_called(name: object, **changes: Any) -> list[dict[str, Any]]:
    return [{"name": name, "rows": 1, "bytes": 5, "sha256": "0" * 64, **changes}]


MANIFESTS = {
    "cut": manifest(NEW_RUN, NEW).to_json()[:200],
    "run id": forged(run_id="../../victim"),
    "escape": forged(parts=file_called("../../victim/theirs")),
    "absolute": forged(parts=file_called("/etc/passwd")),
    "other name": forged(parts=file_called("_SUCCESS")),
    "number": forged(parts=file_called(7)),
    "reject as part": forged(parts=file_called(f"_rejects/{part(0, 'a')}")),
    "part as reject": forged(rejects=file_called(part(0, "a"))),
    "size": forged(parts=file_called(part(0, "a"), bytes="5")),
    "negative": forged(parts=file_called(part(0, "a"), bytes=-5)),
    "digest": forged(parts=file_called(part(0, "a"), sha256="x")),
    "file": forged(parts=["x"]),
    "inputs": forged(inputs=[{"uri": 1}]),
    "totals": forged(totals=None),
    "unknown": forged(more=1),
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_is_validated_before_it_is_believed(text: str, out: Path, victim: Path) -> None:
    before = tree(victim)
    (out / "_current.json").write_bytes(pointer())
    (out / "_runs" / NEW_RUN / "_manifest.json").write_text(text)
    untouched = tree(out)
    for action in (check_output, published, settle):
        with pytest.raises(
            UsageError, match=r"_runs/b+/_manifest\.json: is damaged: .*: put it back"
        ) as caught:
            action(str(out))
        assert "\n" not in str(caught.value)
    assert tree(out) == untouched and tree(victim) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:100],
        lambda text: text.replace('"start": 0', '"start": "0"'),
        lambda text: text.replace('"part-', '"../part-'),
        lambda text: text.replace('"run_id": "', '"run_id": "0'),
        lambda text: text.replace('"sources": [', '"sources": [7,'),
        lambda text: "[]",
    ],
)
def test_a_damaged_plan_is_one_line(
    change: Callable[[str], str], tmp_path: Path, plan: Any
) -> None:
    folder = str(tmp_path / plan.run_id)
    save_plan(plan, folder)
    assert load_plan(folder) == plan
    path = Path(folder, "_plan.json")
    path.write_text(change(path.read_text()))
    with pytest.raises(JobError, match=r"_plan\.json: is (damaged|the plan of)") as caught:
        load_plan(folder)
    assert "\n" not in str(caught.value) and "run it again" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"index": 0}', "[" * 100_000, "\x00"])
def test_a_damaged_record_does_not_count(text: str, tmp_path: Path, plan: Any) -> None:
    records = tmp_path / plan.run_id / "_records"
    records.mkdir(parents=True)
    (records / f"{plan.splits[0].name}.json").write_text(text)
    assert completed_records(str(tmp_path / plan.run_id)) == {}
