"""Digests by which texts are known again: of their bytes and all else that decides an answer."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

BYTES = 16
"""Of a digest: that two of a trillion texts have the same is less likely than one in 10^14."""
SAMPLED = 64
"""Digests in a sample."""
TYPE = pa.binary(BYTES)


def digests_of(texts: pa.Array, identity: str) -> pa.Array:
    """[n] the digests of texts.

    Args:
        texts: large_string, none null.
        identity: in hexadecimal digits, of all that decides an answer beside its text.
    """
    begun = hashlib.blake2b(digest_size=BYTES, person=bytes.fromhex(identity)[:16])
    return parted(b"".join(_after(begun, text) for text in _contents(texts)))


def _after(begun: hashlib.blake2b, text: bytes) -> bytes:
    digest = begun.copy()  # which is quicker than to begin anew
    digest.update(text)
    return digest.digest()


def _contents(texts: pa.Array) -> list[bytes]:
    return texts.cast(pa.large_binary()).to_pylist()


def parted(content: bytes) -> pa.Array:
    """The digests that stand one after the other; the inverse of `joined`."""
    return pa.Array.from_buffers(TYPE, len(content) // BYTES, [None, pa.py_buffer(content)])


def joined(digests: pa.Array) -> bytes:
    """Digests one after the other."""
    first = BYTES * digests.offset
    return digests.buffers()[1][first : first + BYTES * len(digests)].to_pybytes()


def sample(content: bytes) -> tuple[str, ...]:
    """The smallest of joined digests, in hexadecimal digits.

    Whatever texts they stand beside, the same are drawn: a bottom-k sketch (Cohen and Kaplan 2007).
    """
    begins = np.frombuffer(content, ">u8")[::2].astype(np.uint64)
    rows = np.flatnonzero(begins <= np.unique(begins)[:SAMPLED].max(initial=0))
    found = {content[BYTES * row : BYTES * (row + 1)].hex() for row in rows.tolist()}
    return tuple(sorted(found)[:SAMPLED])
