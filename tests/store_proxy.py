"""A proxy before a store: it counts what is asked, and spoils what it is told to spoil."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

Fault = Literal["500", "503", "reset", "lost", "half", "hang"]
"""`reset` before the store hears of the request, `lost` after it has done it."""
FAULTS: tuple[Fault, ...] = ("500", "503", "reset", "lost", "half")
"""All but hanging."""
_OF_A_CONNECTION = {"expect", "connection", "transfer-encoding", "keep-alive"}


class Request(NamedTuple):
    """What was asked of the store."""

    method: str
    path: str
    """Without the query."""
    query: str

    @property
    def kind(self) -> str:
        """The method; `LIST` of what lists a bucket."""
        lists = "list-type=" in self.query or (self.path.endswith("/o") and self.method == "GET")
        return "LIST" if lists else self.method


class Proxy:
    """Passes requests on to a store; use it as a context."""

    def __init__(self, store: str, spoil: Callable[[Request, int], Fault | None] | None = None):
        """Begins to listen.

        Args:
            store: its URL.
            spoil: gets each request and its number, from 1; what to do to it.
        """
        self.requests: list[Request] = []
        self.faults: Counter[str] = Counter()
        self.spoil = spoil or (lambda request, number: None)
        self._store = urlsplit(store).netloc
        self._numbers = itertools.count(1)
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Counts anew."""
        self.requests = []
        self.faults = Counter()

    def count(self, part: str = "") -> Counter[str]:
        """How often what was asked, of paths and queries that hold a word."""
        return Counter(r.kind for r in self.requests if part in r.path or part in r.query)

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler has a self
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60
            store: http.client.HTTPConnection | None = None

            def answer(self) -> None:
                body = self._body()
                url = urlsplit(self.path)
                request = Request(self.command, url.path, url.query)
                proxy.requests.append(request)
                fault = proxy.spoil(request, next(proxy._numbers))
                if fault:
                    proxy.faults[fault] += 1
                if fault == "hang":
                    proxy._ended.wait()
                if fault in ("hang", "reset"):
                    self._reset()
                elif fault in ("500", "503"):
                    self._give(int(fault), [("Content-Length", "0")], b"")
                else:
                    self._pass_on(body, fault)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - of the base

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = bytearray()
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return bytes(body)

            def _pass_on(self, body: bytes, fault: Fault | None) -> None:
                status, headers, data = self._ask(body)
                if fault == "lost":
                    self._reset()
                elif fault == "half" and len(data) > 1 and self.command != "HEAD":
                    self._give(status, headers, data[: len(data) // 2])
                    self._reset()
                else:
                    self._give(status, headers, data)

            def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                given = self.headers.items()
                sent = {k: v for k, v in given if k.lower() not in _OF_A_CONNECTION}
                if body:
                    sent["Content-Length"] = str(len(body))
                for _ in range(2):  # the store closes what was not used for long
                    self.store = self.store or http.client.HTTPConnection(proxy._store, timeout=60)
                    try:
                        self.store.request(self.command, self.path, body, sent)
                        got = self.store.getresponse()
                        data = got.read()
                    except (http.client.HTTPException, OSError):
                        self.store.close()
                        self.store = None
                        continue
                    headers = [
                        (k, v) for k, v in got.getheaders() if k.lower() not in _OF_A_CONNECTION
                    ]
                    return got.status, headers, data
                return 502, [("Content-Length", "0")], b""

            def _give(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                known = {name.lower() for name, _ in headers}
                if "content-length" not in known and status not in (204, 304):
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def _reset(self) -> None:
                self.wfile.flush()
                self.close_connection = True
                hard = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)
                self.connection.close()

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # the client went away
                    super().handle()

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        return Handler
