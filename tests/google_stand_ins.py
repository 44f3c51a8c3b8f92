"""What stands in for Google Cloud: a storage emulator, and a service that keeps what it is sent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

import pytest
from real_engines import free_port

NEEDED = ("google.cloud.dataflow_v1beta3", "gcsfs", "gcp_storage_emulator")


def _missing() -> list[str]:
    def found(name: str) -> bool:
        try:
            return find_spec(name) is not None
        except ModuleNotFoundError:  # not even the package that it would be in
            return False

    return [name for name in NEEDED if not found(name)]


needs_gcp = pytest.mark.skipif(
    bool(_missing()), reason=f"not installed: {', '.join(_missing())} (extra gcp, and the emulator)"
)

IMAGE = "us-central1-docker.pkg.dev/example-project/images/glossator:0.1.0"
EMULATOR = (sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory", "--quiet")
DEADLINE_SECS = 60.0


@dataclass
class Store:
    """The emulator."""

    fs: Any
    url: str

    def names(self, folder: str) -> set[str]:
        self.fs.invalidate_cache()
        return set(self.fs.find(folder))

    def generations(self, folder: str) -> dict[str, str]:
        """What was written there, and when: a new number for each time."""
        self.fs.invalidate_cache()
        found = self.fs.find(folder, detail=True)
        return {name: info["generation"] for name, info in found.items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Google Cloud Storage in a process of its own, and the environment that leads there."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("emulator") / "log"
    with pytest.MonkeyPatch.context() as patch, log.open("w") as file:
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setenv("GOOGLE_CLOUD_PROJECT", "example-project")
        # it would ask Google of what kind a bucket is
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        emulator = subprocess.Popen(
            [*EMULATOR, "--host", "127.0.0.1", "--port", str(port)],
            stdout=file,
            stderr=file,
        )
        try:
            deadline = time.monotonic() + DEADLINE_SECS
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert time.monotonic() < deadline and emulator.poll() is None, log.read_text()
                time.sleep(0.05)
            import gcsfs

            fs = gcsfs.GCSFileSystem()
            fs.mkdir("comments-bucket")
            fs.mkdir("staging-bucket")
            yield Store(fs, url)
        finally:
            emulator.kill()
            emulator.wait(DEADLINE_SECS)


@dataclass
class Service:
    """What stands in for Dataflow: it takes jobs, and says of them what it is told to."""

    url: str = ""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    launches: list[dict[str, Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    state: str = "JOB_STATE_RUNNING"
    message: str = ""
    refusal: tuple[int, str] | None = None
    active: bool = False
    """Whether a job of the name is there already."""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.refusal:
            code, message = self.refusal
            return code, {"error": {"code": code, "message": message}}
        if path.endswith("flexTemplates:launch"):
            self.launches.append(body)
            return 200, {"job": {"id": "launched-1"}}
        if method == "POST":
            self.jobs.append(body)
            request = "another" if self.active else body["clientRequestId"]
            named = {"id": "job-1", "name": body["name"], "clientRequestId": request}
            return 200, {**named, "currentState": "JOB_STATE_PENDING"}
        if path.endswith("/messages"):
            said = {"messageText": self.message, "messageImportance": "JOB_MESSAGE_ERROR"}
            return 200, {"jobMessages": [{**said, "time": "2026-01-01T00:00:00Z"}]}
        if method == "PUT":
            self.cancelled.append(path.rsplit("/", 1)[-1])
            self.state = "JOB_STATE_CANCELLED"
        return 200, {"id": "job-1", "currentState": self.state}


@pytest.fixture
def dataflow() -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            code, answer = made.answer(self.command, path, json.loads(body or b"{}"))
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - as the server calls them

        def log_message(self, format: str, *_: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://localhost:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()
