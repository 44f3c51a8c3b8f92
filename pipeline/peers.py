"""Which user is at the other end of a TCP connection on this machine, as the kernel says.

proc(5), `/proc/net/tcp`: each line is one socket, with its own address, its peer's, its state and
the user that owns it. A client's socket has as its own address what the server sees as its peer.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""Linux's tables of sockets; one that talks IPv4 may stand in either."""
_ESTABLISHED = "01"
_PEER = re.compile(r"ipv[46]:\[?([^\]]+)\]?:(\d+)")

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Endpoint:
    """One end of a connection."""

    address: Address
    port: int


def endpoint(peer: str) -> Endpoint | None:
    """What gRPC calls a peer: `ipv4:127.0.0.1:40000` or `ipv6:%5B::1%5D:40000`.

    Returns:
        The address, where it stands for an IPv4 address that one; None for what has no port, such
        as a socket that is a file.
    """
    match = _PEER.fullmatch(unquote(peer))
    if match is None:
        return None
    try:
        return Endpoint(_unmapped(ipaddress.ip_address(match[1])), int(match[2]))
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host, as a URL has it, is surely this machine."""
    if host == "localhost":
        return True
    try:
        return _unmapped(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))).is_loopback
    except ValueError:
        return False


def has_ipv6() -> bool:
    """Whether this machine has a loopback address of IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


def uid_of(peer: Endpoint, port: int, tables: Sequence[Path] = TABLES) -> int | None:
    """The user whose socket is connected from `peer` to a port of this machine.

    Args:
        peer: the client's end of the connection.
        port: the server's.
        tables: where the kernel lists sockets.

    Returns:
        The user's number; None if there is no such connection any more. A socket that its process
        has closed is listed as root's: it counts as none.

    Raises:
        OSError: the tables can't be read.
    """
    for table in tables:
        if table.exists() or table == tables[0]:  # a kernel without IPv6 has no second one
            for own, other, uid in _connections(table):
                if own == peer and other.port == port and other.address.is_loopback:
                    return uid
    return None


def _connections(table: Path) -> Iterator[tuple[Endpoint, Endpoint, int]]:
    """The established connections that a process holds: both ends, and whose it is."""
    for line in table.read_text(encoding="ascii").splitlines()[1:]:
        _, own, other, state, _, _, _, uid, _, inode, *_ = line.split()
        if state == _ESTABLISHED and inode != "0":
            yield _parsed(own), _parsed(other), int(uid)


def _parsed(written: str) -> Endpoint:
    """`0100007F:C350`: words of four bytes in the machine's order, then the port."""
    address, _, port = written.partition(":")
    words = [bytes.fromhex(address[at : at + 8]) for at in range(0, len(address), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return Endpoint(_unmapped(ipaddress.ip_address(packed)), int(port, 16))


def _unmapped(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one, as programs that talk both have it."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
