"""What a store, this machine or an engine lacked, in one line that names the place and a remedy."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jobs
import pytest
from command_lines import shell
from sample_comments import make_comments, write_comments

from glossator.model.errors import UsageError
from glossator.pipeline.causes import cause, each, reaching
from glossator.pipeline.errors import SourceChangedError, StoreError

Run = Callable[..., "subprocess.CompletedProcess[str]"]

RESUME = "nothing was published, run it again to resume"
PLACES = {"--input": "s3://{}/in", "--output": "s3://{}/out", "--model": "s3://{}/model"}


def refused(run: subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    """One line on standard error, the last, and no traceback."""
    assert run.returncode == code and run.stdout == "", run.stderr
    assert "Traceback" not in run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("glossator: ")]
    assert line == run.stderr.splitlines()[-1] and len(line) < 600
    for word in words:
        assert word in line
    return line


@pytest.fixture
def here(tmp_path: Path, bundle: Path) -> dict[str, str]:
    """Flags of a job that lies on this machine."""
    path = write_comments(tmp_path / "in" / "a.parquet", make_comments(30))
    return {"--input": str(path), "--output": str(tmp_path / "out"), "--model": str(bundle)}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment of which nothing is left but what is set."""
    pytest.importorskip("s3fs")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return monkeypatch


def known(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ACCESS_KEY_ID", "someone")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "secret")


MOTO = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
"""


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """S3 on this machine, without a bucket."""
    pytest.importorskip("moto.server")
    process = subprocess.Popen(
        [sys.executable, "-c", MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.communicate("\n", timeout=60)


class Forbids(BaseHTTPRequestHandler):
    """S3 to which this key means nothing."""

    def answer(self) -> None:
        body = (
            b"<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code>"
            b"<Message>The key does not exist</Message></Error>"
        )
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def forbidden() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forbids)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def labelled_with(
    shell: Run, here: dict[str, str], flag: str, bucket: str = "bucket"
) -> subprocess.CompletedProcess[str]:
    flags = {**here, flag: PLACES[flag].format(bucket)}
    return shell("-m", "glossator.pipeline", *(word for pair in flags.items() for word in pair))


@pytest.mark.s3
@pytest.mark.parametrize("flag", PLACES)
def test_no_credentials(flag: str, here: dict[str, str], aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    line = refused(labelled_with(shell, here, flag), 2, "no complete credentials were found")
    assert flag in line and PLACES[flag].format("bucket") in line and "again" not in line


@pytest.mark.s3
@pytest.mark.parametrize("flag", PLACES)
def test_wrong_credentials(
    flag: str, here: dict[str, str], aws: pytest.MonkeyPatch, forbidden: str
) -> None:
    known(aws)
    aws.setenv("AWS_ENDPOINT_URL", forbidden)
    line = refused(labelled_with(shell, here, flag), 2, "access denied")
    assert flag in line and PLACES[flag].format("bucket") in line and "again" not in line


@pytest.mark.s3
@pytest.mark.parametrize("flag", PLACES)
def test_an_endpoint_that_is_down(flag: str, here: dict[str, str], aws: pytest.MonkeyPatch) -> None:
    known(aws)
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    words = ("the store does not answer", flag.strip("-"), PLACES[flag].format("bucket"))
    refused(labelled_with(shell, here, flag), 1, *words)


@pytest.mark.s3
@pytest.mark.parametrize("flag", PLACES)
def test_a_bucket_that_is_not_there(
    flag: str, here: dict[str, str], aws: pytest.MonkeyPatch, moto: str
) -> None:
    known(aws)
    aws.setenv("AWS_ENDPOINT_URL", moto)
    line = refused(labelled_with(shell, here, flag, "nowhere"), 2, "nowhere")
    assert flag in line
    if flag != "--model":
        assert "there is no such bucket: create it" in line


@pytest.mark.s3
def test_a_job_on_s3(
    here: dict[str, str], aws: pytest.MonkeyPatch, moto: str, bundle: Path
) -> None:
    import s3fs

    known(aws)
    aws.setenv("AWS_ENDPOINT_URL", moto)
    store = s3fs.S3FileSystem(skip_instance_cache=True)
    store.mkdir("there")
    store.put(here["--input"], "there/in/a.parquet")
    store.put(f"{bundle}/", "there/model/", recursive=True)
    flags = [word for flag, uri in PLACES.items() for word in (flag, uri.format("there"))]
    run = shell("-m", "glossator.pipeline", *flags)
    assert run.returncode == 0, run.stderr
    assert "30 rows read = 30 labelled" in run.stdout
    assert len(store.glob("there/out/_runs/*/part-*.parquet")) == 1
    assert store.exists("there/out/_SUCCESS") and not store.exists("there/out/_lease.json")


@pytest.fixture
def small_folder(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own for temporary files, with hardly any room."""
    with jobs.small_disk(tmp_path / "temporary", "64k") as disk:
        yield disk


def test_a_full_folder_for_temporary_files(
    small_folder: Path, here: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_comments(
        Path(here["--input"]), [f"{text} {i}" for i, text in enumerate(make_comments(9000))]
    )
    monkeypatch.setenv("TMPDIR", str(small_folder))
    flags = {**here, "--output": "memory://full/out"}
    run = shell("-m", "glossator.pipeline", *(word for pair in flags.items() for word in pair))
    words = ("output", "temporary files", "is full: make room, or set TMPDIR", RESUME)
    refused(run, 1, *words)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (PermissionError(errno.EACCES, "Permission denied"), "access denied"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "does not answer"),
        (TimeoutError("timed out"), "does not answer"),
        (OSError("odd\n thing"), "OSError: odd thing"),
    ],
)
def test_what_a_store_raises_in_the_midst_of_the_work(error: OSError, why: str) -> None:
    with pytest.raises(StoreError) as caught, reaching("output", "/data/out"):
        raise error
    said = str(caught.value)
    assert said.startswith("output /data/out: ") and why in said and "\n" not in said
    assert cause(caught.value) == f"{said}; {RESUME}"


def test_before_the_work_has_begun() -> None:
    with pytest.raises(UsageError) as caught, reaching("input", "/data/in", begun=False):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert caught.value.parameter == "inputs" and "/data/in" in str(caught.value)
    down = pytest.raises(StoreError, match="input /data/in: the store does not answer")
    with down, reaching("input", "/data/in", begun=False):
        raise TimeoutError


def test_what_is_no_stores_fault_stays_as_it_is() -> None:
    for error in (
        ZeroDivisionError("x"),
        MemoryError(),
        UsageError("bad"),
        SourceChangedError("y"),
    ):
        with pytest.raises(type(error)) as caught, reaching("output", "/data/out"):
            raise error
        assert caught.value is error


def test_items_that_come_from_a_store() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise FileNotFoundError(errno.ENOENT, "gone")

    found = each("input", "/data/in", items())
    assert next(found) == 1
    with pytest.raises(StoreError, match="input /data/in: FileNotFoundError"):
        next(found)
    found = each("input", "/data/in", items())
    with pytest.raises(OSError, match="mine"):
        for _ in found:
            raise OSError("mine")  # of whoever takes the items


TRACE = "Traceback (most recent call last):\n  File x\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("MemoryError [while running 'Label']"), "out of memory (MemoryError)"),
        (UsageError("bad [while running 'Label']"), "bad; nothing was published"),
        (
            RuntimeError(f"{TRACE}glossator.pipeline.errors.SourceChangedError: f: replaced"),
            "f: replaced; nothing was published",
        ),
        (
            RuntimeError(
                f"{TRACE}RuntimeError: glossator.pipeline.errors.StoreError: input f: x\n"
            ),
            f"input f: x; {RESUME}",
        ),
        (
            RuntimeError(f"{TRACE}a.b.OddError: x [while running 'Label']\n"),
            f"OddError: x; {RESUME}",
        ),
        (RuntimeError("can't start new thread"), "limited (ulimit -v, -u); " + RESUME),
    ],
)
def test_the_innermost_cause_of_what_an_engine_raises(error: Exception, line: str) -> None:
    assert line in cause(error) and "\n" not in cause(error)
    assert ("again" in cause(error)) == (RESUME in line or "memory" in line)
