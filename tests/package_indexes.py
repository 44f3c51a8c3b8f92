"""Package indexes of the tests' own, on disk or on localhost."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from glossator.model.package_index import Archive, normalised_name


def tar_gz(members: Mapping[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as pack:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            pack.addfile(member, io.BytesIO(content))
    return memory.getvalue()


def publish(index: Path, project: str, filename: str, content: bytes) -> Archive:
    """Puts a file where pip would find it: `index/simple/PROJECT/index.html` links to it."""
    files = index / "files"
    files.mkdir(parents=True, exist_ok=True)
    (files / filename).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    page = index / "simple" / normalised_name(project)
    page.mkdir(parents=True)
    (page / "index.html").write_text(
        f'<html><body><a href="../../files/{filename}#sha256={digest}">{filename}</a></body></html>'
    )
    return Archive(project, "1.0", filename, digest)


class Served:
    """A folder served over http on localhost, which notes what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, str]] = []
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, self.headers.get("Accept", "")))
                super().do_GET()

            def guess_type(self, path: str | os.PathLike[str]) -> str:
                json_page = Path(path).name == "index.html" and Path(path).read_bytes()[:1] == b"{"
                return "application/vnd.pypi.simple.v1+json" if json_page else "text/html"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def without_pip_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves pip without this machine's configuration."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
