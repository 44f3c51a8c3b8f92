"""Whose connection it is, asked about connections that were made for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from users import OTHER, needs_another_user

from glossator.pipeline.engines import peers

pytestmark = pytest.mark.skipif(
    not peers.TABLES[0].exists(), reason="only Linux lists whose a socket is"
)
WAYS = {
    "IPv4": (socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1"),
    "IPv6": (socket.AF_INET6, "::1", socket.AF_INET6, "::1"),
    # Java's sockets talk both
    "IPv4 by IPv6": (socket.AF_INET, "127.0.0.1", socket.AF_INET6, "::ffff:127.0.0.1"),
}
"""The server's family and address, the client's family, and where it connects to."""


@pytest.fixture(params=WAYS)
def connection(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, peers.Endpoint]]:
    """A client's socket, and what the server has for its peer."""
    family, address, other_family, target = WAYS[request.param]
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"no {request.param} here")
    with server, socket.socket(other_family) as client:
        client.connect((target, server.getsockname()[1]))
        accepted, (host, port, *_) = server.accept()
        with accepted:
            peer = f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
            found = peers.endpoint(peer)
            assert found is not None
            yield client, found


def server_port(client: socket.socket) -> int:
    port: int = client.getpeername()[1]
    return port


def test_own_connection(connection: tuple[socket.socket, peers.Endpoint]) -> None:
    client, peer = connection
    assert peers.uid_of(peer, server_port(client)) == os.getuid()


def test_connection_to_another_port_is_another(
    connection: tuple[socket.socket, peers.Endpoint],
) -> None:
    client, peer = connection
    assert peers.uid_of(peer, server_port(client) ^ 1) is None


def test_closed_connection_is_nobodys(connection: tuple[socket.socket, peers.Endpoint]) -> None:
    """The kernel lists it for a while, as root's, whoever had it."""
    client, peer = connection
    port = server_port(client)
    client.close()
    assert peers.uid_of(peer, port) is None


@needs_another_user
def test_another_users_connection() -> None:
    code = (
        # all is imported first: the other user may not read this Python's files
        f"import encodings.idna, os, socket, sys; os.setuid({OTHER});"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        command = [sys.executable, "-c", code, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
            accepted, (host, peer_port) = server.accept()
            with accepted:
                peer = peers.endpoint(f"ipv4:{host}:{peer_port}")
                assert peer is not None
                assert peers.uid_of(peer, port) == OTHER
                assert client.stdin is not None
                client.stdin.close()


@pytest.mark.parametrize(
    ("lines", "uid"),
    [
        # established, held by user 1000
        (["0: 0100007F:9C40 0100007F:C350 01 0:0 0:0 0 1000 0 77 1 0"], 1000),
        # closed by its process and not yet gone: no inode, and root's
        (["0: 0100007F:9C40 0100007F:C350 01 0:0 0:0 0 0 0 0 1 0"], None),
        (["0: 0100007F:9C40 0100007F:C350 06 0:0 0:0 0 0 0 0 3 0"], None),
        # the server's own end, and a connection to elsewhere
        (["0: 0100007F:C350 0100007F:9C40 01 0:0 0:0 0 1000 0 78 1 0"], None),
        (["0: 0100007F:9C40 0A00000A:C350 01 0:0 0:0 0 1000 0 79 1 0"], None),
    ],
)
@pytest.mark.skipif(sys.byteorder != "little", reason="the tables are in the machine's order")
def test_lines_of_the_table(lines: list[str], uid: int | None, tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text("\n".join(["  sl  local_address rem_address", *lines]) + "\n")
    peer = peers.endpoint("ipv4:127.0.0.1:40000")
    assert peer is not None
    assert peers.uid_of(peer, 50000, [table]) == uid


@pytest.mark.parametrize(
    "peer", ["unix:/tmp/socket", "unix:", "ipv4:127.0.0.1", "ipv4:300.0.0.1:1", "", "127.0.0.1:1"]
)
def test_what_is_no_address(peer: str) -> None:
    assert peers.endpoint(peer) is None


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("[::ffff:127.0.0.1]", True),
        ("0.0.0.0", False),
        ("[::]", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("dns:///localhost", False),
        ("", False),
    ],
)
def test_loopback(host: str, here: bool) -> None:
    assert peers.is_loopback(host) is here
