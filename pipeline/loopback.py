"""Beam's own servers in this process, kept to this machine and to this user.

Where an engine runs beside this process, Beam's Python side serves it: services for jobs, files,
control, data, state and logging, and a pool of workers. They listen on every network and serve
whoever comes, and one of them gives any file that this user can read. Beam has no option against
that.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]

from glossator.pipeline import peers

_log = logging.getLogger("glossator.loopback")
_TRIES = 10


class _Replacement:
    """`grpc.server` while anybody wants it to be another function; of all threads together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._original = grpc.server

    def want(self) -> None:
        with self._lock:
            self._wanted += 1
            if self._wanted == 1:
                self._original, grpc.server = grpc.server, self._server

    def release(self) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                grpc.server = self._original

    def _server(
        self, pool: Any, handlers: Any = None, interceptors: Any = None, *more: Any, **options: Any
    ) -> Any:
        guard = _Guard()
        made = self._original(pool, handlers, [guard, *(interceptors or ())], *more, **options)
        add = made.add_insecure_port
        made.add_insecure_port = lambda address: guard.listen(add, address)
        return made


_REPLACEMENT = _Replacement()


@contextmanager
def own_servers_only() -> Iterator[None]:
    """Keeps gRPC servers that are made while the context is open to this machine and user.

    `grpc.server` is another function until then, for all of this process. Nobody of another
    machine gets through; and of this machine's users, where the kernel says whose a connection is
    (Linux), nobody but this one.
    """
    _REPLACEMENT.want()
    try:
        yield
    finally:
        _REPLACEMENT.release()


class _Guard(grpc.ServerInterceptor):
    """Serves this user alone."""

    def __init__(self) -> None:
        self._ports: set[int] = set()

    def listen(self, add: Callable[[str], int], address: str) -> int:
        """Binds to loopback instead of to an address; the port."""
        host, _, number = address.rpartition(":")
        if address.startswith("unix"):
            return add(address)
        if host != "localhost" and peers.is_loopback(host):  # one of ours, which binds both itself
            port = add(address)
            self._ports.add(port)
            return port
        wanted = int(number)
        for _ in range(_TRIES):
            port = add(f"127.0.0.1:{wanted}")
            try:
                if peers.has_ipv6():  # else another could answer to `localhost` there
                    add(f"[::1]:{port}")
            except RuntimeError:  # it is taken
                if wanted:
                    raise
                continue
            self._ports.add(port)
            return port
        raise RuntimeError("no port is free on both 127.0.0.1 and ::1")

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Puts the check before a method's own function, whatever its kind."""
        handler = continuation(details)
        if handler is None:
            return None
        kinds = [(one, other) for one in ("unary", "stream") for other in ("unary", "stream")]
        for asked, answered in kinds:
            behaviour = getattr(handler, f"{asked}_{answered}")
            if behaviour is not None:
                make = getattr(grpc, f"{asked}_{answered}_rpc_method_handler")
                return make(
                    self._checked(behaviour),
                    handler.request_deserializer,
                    handler.response_serializer,
                )
        return handler

    def _checked(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        def check(request: Any, context: Any) -> Any:
            if not self._is_own(context.peer()):
                _log.warning("refused %s, which is not this user's", context.peer())
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "not your job's server")
            return behaviour(request, context)

        return check

    def _is_own(self, peer: str) -> bool:
        if peer.startswith("unix") or not peers.TABLES[0].exists():
            return True
        caller = peers.endpoint(peer)
        uids = (peers.uid_of(caller, port) for port in self._ports) if caller else ()
        return os.getuid() in uids
