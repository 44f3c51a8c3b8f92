"""What becomes of a run that a check has not passed: it is refused, and its staging says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from glossator.model.store import open_store, put_bytes, read_bytes
from glossator.model.typed_json import TypedJsonError, from_json, loads
from glossator.pipeline.errors import RefusedError
from glossator.pipeline.gates.limits import figure
from glossator.pipeline.gates.unreadable import Unreadable
from glossator.pipeline.outputs.manifest import Check, Manifest
from glossator.pipeline.outputs.staging import REFUSAL, REJECTS


def require_passed(
    audited: Manifest,
    found: Unreadable,
    staging: str,
    tell: Callable[[Manifest], str | None] = lambda _: None,
) -> None:
    """Refuse a run of which a check has neither passed nor is accepted, and leave word of it.

    Args:
        audited: the run with its checks.
        found: what could not be read.
        staging: the run's folder.
        tell: is called of a run that is refused, and gives where there is a page of it.

    Raises:
        RefusedError: says what was found, where to look, and the remedy.
    """
    failed = [check for check in audited.checks if not check.passed and not check.accepted]
    if not failed:
        return
    page = tell(audited)
    if [check.name for check in failed] == ["unreadable"]:
        error = _unreadable(failed[0], found, staging, page)
    else:
        error = _of_checks(failed, found, page or staging)
    error.checks = audited.checks
    _save(error, audited, staging)
    raise error


def _unreadable(check: Check, found: Unreadable, staging: str, page: str | None) -> RefusedError:
    assert check.value is not None
    more = f", and {page} has the run" if page else ""
    return RefusedError(
        f"{found}, more than the {_allowed(check.limit)} allowed:"
        f" nothing was published; {staging}/{REJECTS} says which and why{more}: repair or"
        f" remove them, or allow {_allowed(check.value)} and run it again, which publishes at once",
        parameter="max_unreadable",
    )


def _of_checks(failed: Sequence[Check], found: Unreadable, where: str) -> RefusedError:
    return RefusedError(
        f"{'; '.join(in_words(check, found) for check in failed)}: nothing was published; {where}"
        f" has the run: repair the input or the model and run it again, or accept"
        f" {'each of these' if len(failed) > 1 else 'it'}, which publishes at once",
        parameter="accept",
    )


def in_words(check: Check, found: Unreadable | None = None) -> str:
    """A check that has not passed, in words; with what could not be read, that in full."""
    assert check.value is not None
    if check.name == "unreadable":
        share = isinstance(check.value, float)
        what = found or f"{check.value:{'.2%' if share else ','}} {check.against}"
        return f"unreadable: {what}, at most {_allowed(check.limit)}"
    value, limit = (figure(check.name, one) for one in (check.value, check.limit))
    return f"{check.name} is {value} {check.against}, at {check.bound} {limit}"


def _allowed(value: float) -> str:
    if isinstance(value, float):
        return f"share of {value:.2%}"
    return f"{value:,} file{'s' * (value != 1)}"


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
    error = RefusedError(found.message, parameter=found.parameter)
    error.checks = found.checks
    return error


@dataclass(frozen=True)
class _Refusal:
    """What `_refused.json` holds."""

    format: Literal["glossator-refusal-1"]
    message: str
    parameter: str | None
    checks: tuple[Check, ...]
    flips: dict[str, dict[str, dict[str, int]]]
    """As the manifest would have them."""


def _save(error: RefusedError, audited: Manifest, staging: str) -> None:
    content = _Refusal(
        "glossator-refusal-1", str(error), error.parameter, audited.checks, audited.flips
    )
    fs, root = open_store(staging)
    text = json.dumps(asdict(content), ensure_ascii=False, indent=1) + "\n"
    put_bytes(fs, f"{root}/{REFUSAL}", text.encode())
