"""Encrypted Parquet files, whose keys nobody has."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption


class _Keys(encryption.KmsClient):  # type: ignore[misc]
    """Wraps no key."""

    def wrap_key(self, key_bytes: bytes, _: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, _: str) -> bytes:
        return base64.b64decode(wrapped_key)


def write_encrypted(
    path: Path, table: pa.Table, columns: Sequence[str] = ("text",), **options: Any
) -> None:
    """Writes these columns, or all, and the footer encrypted; see `EncryptionConfiguration`."""
    if "uniform_encryption" not in options:
        options["column_keys"] = {"of a column": list(columns)}
    configuration = encryption.EncryptionConfiguration(footer_key="of the footer", **options)
    factory = encryption.CryptoFactory(lambda _: _Keys())
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), configuration)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
