"""Word that is left in staging of a run that was whole, and was refused by a check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from glossator.model.store import open_store, put_bytes, read_bytes
from glossator.model.typed_json import TypedJsonError, from_json, loads
from glossator.pipeline.errors import RefusedError
from glossator.pipeline.outputs.manifest import Check, Manifest
from glossator.pipeline.outputs.staging import REFUSAL


@contextmanager
def known_refusals(staging: str) -> Iterator[None]:
    """Raises a refusal as it was first raised, however an engine passes it on.

    From other machines comes an exception's text at best, and Beam adds to it.

    Raises:
        RefusedError: an error ended the context, and the run in this staging folder was refused.
    """
    try:
        yield
    except Exception:
        if (refused := refusal_in(staging)) is None:
            raise
        raise refused from None  # the engine's account of it says nothing more


def refusal_in(staging: str) -> RefusedError | None:
    """Why the run in a staging folder was refused; None if it was not."""
    fs, root = open_store(staging)
    text = read_bytes(fs, f"{root}/{REFUSAL}")
    if text is None:
        return None
    try:
        found = from_json(_Refusal, loads(text))
    except TypedJsonError:  # the job has failed, whatever this is
        return None
    return RefusedError(found.message, parameter=found.parameter)


@dataclass(frozen=True)
class _Refusal:
    """What `_refused.json` holds."""

    format: Literal["glossator-refusal-1"]
    message: str
    parameter: str | None
    checks: tuple[Check, ...]
    flips: dict[str, dict[str, dict[str, int]]]
    """As the manifest would have them."""


def save_refusal(error: RefusedError, audited: Manifest, staging: str) -> None:
    """Leave word in a staging folder of why its run was refused."""
    content = _Refusal(
        "glossator-refusal-1", str(error), error.parameter, audited.checks, audited.flips
    )
    fs, root = open_store(staging)
    text = json.dumps(asdict(content), ensure_ascii=False, indent=1) + "\n"
    put_bytes(fs, f"{root}/{REFUSAL}", text.encode())
