"""The job on stores that run here: S3 that checks who asks, and Google Cloud Storage."""

from __future__ import annotations

import io
import random
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from outputs import NEW, NEW_RUN, OLD, OLD_RUN, stage
from polling import PUBLICATIONS, by_fsspec, poll
from real_stores import READER, S3, Bucket
from sample_comments import make_comments, write_comments
from store_proxy import Proxy

from glossator.model.conditional import put_if_absent, put_if_unchanged, read_versioned
from glossator.pipeline.errors import FencedError, JobError
from glossator.pipeline.inputs import decode
from glossator.pipeline.outputs import lease as leases
from glossator.pipeline.outputs.publish import publish, published

pytestmark = pytest.mark.stores

FLAGS = ("label", "--key", "id")
PLACES = ("--input", "--output", "--model")
AT_MOST = 8
"""Requests a split."""


def parts(files: dict[str, bytes]) -> pa.Table:
    """The labels of a publication, but for where they come from."""
    found = [data for name, data in sorted(files.items()) if name.rpartition("/")[2][:5] == "part-"]
    table = pa.concat_tables([pq.read_table(io.BytesIO(data)) for data in found])
    return table.drop_columns(["source_file"])


def long(count: int) -> list[str]:
    """Comments that take their space in a file."""
    chance = random.Random(count)
    return [f"{text} {chance.getrandbits(256):x}" for text in make_comments(count)]


def local_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("part-*")
        if "_rejects" not in path.parts
    }


@pytest.fixture
def comments(tmp_path: Path) -> Path:
    """A small file, one of several megabytes, and one that is none."""
    folder = tmp_path / "in"
    write_comments(folder / "a.parquet", [None, *make_comments(30)])
    write_comments(folder / "b.parquet", long(20_000), first_id=100, row_group_size=7_000)
    assert (folder / "b.parquet").stat().st_size > 1 << 20  # read in pieces
    return folder


def check_that_it_labels(bucket: Bucket, comments: Path, bundle: Path, tmp_path: Path) -> None:
    local = glossator(*FLAGS, "--input", comments, "--output", tmp_path / "out", "--model", bundle)
    assert local.returncode == 0, local.stderr
    model = bucket.put(bundle, "model")
    flags = (*FLAGS, "--input", bucket.put(comments, "in"), "--model", model)
    run = glossator(*flags, "--output", f"{bucket.uri}/out")
    assert run.returncode == 0, run.stderr
    assert "20,031 rows read = 20,030 labelled + 1 rejected" in run.stdout
    labels = {name: data for name, data in bucket.files("out").items() if "_rejects" not in name}
    assert parts(labels).equals(parts(local_files(tmp_path / "out")))
    again = glossator(*flags, "--output", f"{bucket.uri}/out")
    assert again.returncode == 0 and "nothing was done" in again.stdout


@pytest.mark.parametrize("at_once", [True, False])
def test_input_model_and_output_on_s3(
    at_once: bool,
    s3: S3,
    comments: Path,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not at_once:  # as files of more megabytes are read
        monkeypatch.setattr(decode, "_FETCHED_BYTES", decode.SMALL_BYTES)
    with Proxy(s3.url) as proxy:
        s3.ask(url=proxy.url)
        check_that_it_labels(s3, comments, bundle, tmp_path)
    reads = [r for r in proxy.requests if r.path.endswith("in/b.parquet") and r.method == "GET"]
    # a footer for each plan, and the file
    assert len(reads) == 3 if at_once else len(reads) > 5


def test_input_model_and_output_on_google_cloud_storage(
    gcs: Bucket, comments: Path, bundle: Path, tmp_path: Path
) -> None:
    check_that_it_labels(gcs, comments, bundle, tmp_path)


@pytest.mark.slow
def test_three_thousand_files(s3: S3, bundle: Path, tmp_path: Path) -> None:
    files = {}
    for i in range(3000):
        sink = pa.BufferOutputStream()
        ids = pa.array([3 * i, 3 * i + 1, 3 * i + 2])
        pq.write_table(pa.table({"id": ids, "text": make_comments(3, seed=i)}), sink)
        files[f"{s3.uri}/in/{i:04d}.parquet"] = sink.getvalue().to_pybytes()
    s3.fs.pipe(files)
    with Proxy(s3.url) as proxy:
        s3.ask(url=proxy.url)
        run = glossator(
            *FLAGS, "--input", f"{s3.uri}/in", "--output", f"{s3.uri}/out", "--model", bundle
        )
    assert run.returncode == 0, run.stderr
    labels = {name: data for name, data in s3.files("out").items() if "_rejects" not in name}
    assert sorted(parts(labels)["id"].to_pylist()) == list(range(9000))
    # a footer and a file each; the rest is of the few splits that they share
    assert len(proxy.requests) < 3 * 3000


@pytest.fixture
def here(comments: Path, bundle: Path, tmp_path: Path) -> dict[str, object]:
    """Flags of a job that lies on this machine."""
    return {"--input": comments, "--output": tmp_path / "out", "--model": bundle}


def refused(run: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    """One line that says why, at the end."""
    assert run.returncode == code and run.stdout == "" and "Traceback" not in run.stderr, run.stderr
    *before, line = run.stderr.splitlines()
    assert line.startswith("glossator: ") and all(one.startswith("labelling ") for one in before)
    for word in words:
        assert word in line


def labelled(here: dict[str, object], **changed: object) -> subprocess.CompletedProcess[str]:
    flags = {**here, **{f"--{name}": value for name, value in changed.items()}}
    return glossator(*FLAGS, *(word for pair in flags.items() for word in pair))


@pytest.mark.parametrize("who", ["nobody", "a stranger", "one with a wrong secret"])
@pytest.mark.parametrize("flag", PLACES)
def test_who_may_not(flag: str, who: str, s3: S3, here: dict[str, object]) -> None:
    given = {"a stranger": ("stranger", "secret"), "one with a wrong secret": ("writer", "wrong")}
    s3.ask(given.get(who))
    run = labelled(here, **{flag.strip("-"): f"{s3.uri}/x"})
    word = "no complete credentials" if who == "nobody" else "access denied"
    refused(run, word, flag, f"{s3.uri}/x")
    assert not s3.files("x")


def test_who_may_only_read(s3: S3, here: dict[str, object], comments: Path, bundle: Path) -> None:
    s3.put(comments, "in")
    s3.put(bundle, "model")
    s3.ask(READER)
    run = labelled(here, input=f"{s3.uri}/in", model=f"{s3.uri}/model")
    assert run.returncode == 0, run.stderr
    refused(labelled(here, output=f"{s3.uri}/out"), "access denied", "--output", f"{s3.uri}/out")


@pytest.mark.parametrize("flag", PLACES)
@pytest.mark.parametrize("store", ["s3", "gcs"])
def test_a_bucket_that_is_not_there(
    flag: str, store: str, here: dict[str, object], request: pytest.FixtureRequest
) -> None:
    scheme = request.getfixturevalue(store).uri.partition("://")[0]
    run = labelled(here, **{flag.strip("-"): f"{scheme}://not-there/x"})
    refused(run, flag, f"{scheme}://not-there/x", code=2)
    if flag != "--model":
        assert "there is no such bucket: create it" in run.stderr


@pytest.mark.parametrize("rows", [300, 12_000])
def test_requests_a_split(rows: int, s3: S3, bundle: Path, tmp_path: Path) -> None:
    """Of files each of which is a split with rejects, up to the last split's record."""
    files = 4
    for i in range(files):
        write_comments(tmp_path / "in" / f"{i:02d}.parquet", [None, *long(rows + i)])
    folder = s3.put(tmp_path / "in", "in")
    with Proxy(s3.url) as proxy:
        s3.ask(url=proxy.url)
        run = glossator(
            *FLAGS, "--input", folder, "--output", f"{s3.uri}/out", "--model", bundle, "--top", 0
        )
    assert run.returncode == 0 and f"published {files} parts" in run.stdout, run.stderr
    last = max(
        i for i, r in enumerate(proxy.requests) if "_records/part-" in r.path and r.method == "PUT"
    )
    of_splits = [
        request
        for request in proxy.requests[: last + 1]
        if "part-" in request.path + request.query or re.search(r"/in/\d\d", request.path)
    ]
    assert 5 * files <= len(of_splits) <= AT_MOST * files


@pytest.mark.parametrize("store", ["s3", "gcs"])
def test_one_of_many_writes_where_nothing_is(store: str, request: pytest.FixtureRequest) -> None:
    bucket = request.getfixturevalue(store)
    for race in range(3):
        uri = f"{bucket.uri}/marks/{race}.json"
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda i: put_if_absent(uri, b"%d" % i), range(8)))  # noqa: B023
        assert won.count(True) == 1 and not put_if_absent(uri, b"late")
        assert bucket.files("marks")[f"{race}.json"] == b"%d" % won.index(True)


@pytest.mark.parametrize("store", ["s3", "gcs"])
def test_one_of_many_replaces(store: str, request: pytest.FixtureRequest) -> None:
    bucket = request.getfixturevalue(store)
    uri = f"{bucket.uri}/marks/current.json"
    assert read_versioned(uri) is None and put_if_unchanged(uri, b"first", None)
    for race in range(3):
        before = read_versioned(uri)
        assert before is not None

        def write(number: int, race: int = race, version: str = before.version) -> bool:
            return put_if_unchanged(uri, b"%d %d" % (race, number), version)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        now = read_versioned(uri)
        assert now is not None and won.count(True) == 1
        assert now.data == b"%d %d" % (race, won.index(True)) and now.version != before.version
        assert not put_if_unchanged(uri, b"late", before.version)


@pytest.mark.parametrize("store", ["s3", "gcs"])
def test_a_reader_polls_while_publications_replace_each_other(
    store: str, request: pytest.FixtureRequest
) -> None:
    bucket = request.getfixturevalue(store)
    seen = poll(f"{bucket.uri}/out", by_fsspec)
    assert seen == sorted(seen) and seen[-1] == PUBLICATIONS - 1
    assert len(set(seen)) > 5


@pytest.mark.parametrize("store", ["s3", "gcs"])
def test_one_writer(
    store: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The living keeps others out, the dead does not, and the woken can't publish."""
    bucket = request.getfixturevalue(store)
    monkeypatch.setattr(leases, "LEASE_SECS", 2.0)
    out = f"{bucket.uri}/out"
    said: list[str] = []
    first = leases.acquire(out, OLD_RUN, said.append)
    with pytest.raises(JobError, match=rf"run {OLD_RUN} .* is writing this output"):
        leases.acquire(out, NEW_RUN, said.append)
    first._stop.set()  # as a machine that is suspended
    first._thread.join()
    second = leases.acquire(out, NEW_RUN, said.append)
    assert said[-1].endswith("is dead: taking over") and second.token > first.token
    with pytest.raises(FencedError):
        publish(out, OLD_RUN, stage(out, OLD_RUN, OLD), token=first.token)
    publish(out, NEW_RUN, stage(out, NEW_RUN, NEW), token=second.token)
    second.release()
    now = published(out)
    assert now is not None and now.run_id == NEW_RUN and leases.read_lease(out) is None
