"""A folder with the network for other runtimes, and what certifies it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from glossator.model import onnx_export
from glossator.model.bundle import Bundle
from glossator.model.errors import UsageError
from glossator.model.parity import Certificate, certify

NETWORK, TOKENIZER, CERTIFICATE = "model.onnx", "tokenizer.json", "certificate.json"


def export_onnx(bundle: Bundle, folder: Path, texts: Sequence[str]) -> list[Certificate]:
    """Writes the network, the tokenizer and the certificates: of the engine here, and of ONNX.

    Args:
        bundle: the model.
        folder: where to; what it holds of these names is replaced.
        texts: to certify with, none of them blank.

    Raises:
        UsageError: it can't be exported, or answers otherwise; nothing was written.
    """
    if not texts:
        raise UsageError("there is no text to check with", parameter="data")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / NETWORK
        onnx_export.export(bundle, path)
        by_runtime = certify(bundle, texts, "ONNX Runtime", onnx_export.runtime(path))
        certificates = [certify(bundle, texts), by_runtime]
        for certificate in certificates:
            if not certificate.holds:
                raise UsageError(
                    f"not exported: {certificate.line()}; try another release of onnxruntime, or "
                    "label with this package"
                )
        said = {
            "model_digest": bundle.digest,
            "certificates": [certificate.to_json() for certificate in certificates],
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NETWORK).write_bytes(path.read_bytes())
    (folder / TOKENIZER).write_text(bundle.tokenizer.to_json(), encoding="utf-8")
    (folder / CERTIFICATE).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return certificates
