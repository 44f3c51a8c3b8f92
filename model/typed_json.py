"""JSON that somebody may have damaged or forged, checked against the dataclasses it stands for.

Annotations say it all: `Annotated[str, Matches(r"[0-9a-f]{64}")]`, `Annotated[int, AtLeast(0)]`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union

from glossator.model import strict_json

_T = TypeVar("_T")
_SHOWN = 60


class TypedJsonError(ValueError):
    """What is wrong, and where in the JSON; whoever catches it knows the file and the remedy."""


@dataclass(frozen=True)
class Matches:
    """A string's whole text is as this regular expression says."""

    pattern: str


@dataclass(frozen=True)
class AtLeast:
    """A number is not below this."""

    smallest: float


Count = Annotated[int, AtLeast(0)]
"""A number of rows, bytes or files."""
Sha256 = Annotated[str, Matches(r"[0-9a-f]{64}")]
"""A digest, in hexadecimal digits."""


def loads(text: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        TypedJsonError: it is no JSON, or no object.
    """
    try:
        value = strict_json.parse(text.encode() if isinstance(text, str) else text)
    except ValueError as error:
        raise TypedJsonError(f"it {error}") from error
    if not isinstance(value, dict):
        raise TypedJsonError(f"it is {_shown(value)}, not an object")
    return value


def from_json(kind: type[_T], value: object) -> _T:
    """A dataclass from what `json.loads` gives for it, with every type in it checked.

    Understands dataclasses, `tuple[X, ...]`, `list`, `dict` with keys that are strings, unions,
    `Literal`, `Annotated` with `Matches` and `AtLeast`, and `Any`. A float may be written without
    a fraction, and is finite. A field that is not there has to have a default; one that the
    dataclass lacks is an error.

    Raises:
        TypedJsonError: names the first place that is wrong, e.g. `inputs[3].size`.
    """
    made: _T = _convert(kind, value, "")
    return made


def _convert(kind: Any, value: object, place: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _constrained(arguments[0], arguments[1:], value, place)
    if origin is Union or origin is types.UnionType:
        return _first_that_fits(arguments, value, place)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise _wrong(place, value, f"one of {', '.join(map(repr, arguments))}")
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, place)
    if origin in (tuple, list):
        return _sequence(origin, arguments, value, place)
    if origin is dict:
        return _mapping(arguments, value, place)
    return _scalar(kind, value, place)


def _dataclass(kind: Any, value: object, place: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    hints, made = _hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            inner = f"{place}.{field.name}".lstrip(".")
            made[field.name] = _convert(hints[field.name], value[field.name], inner)
        elif (field.default, field.default_factory) == (dataclasses.MISSING, dataclasses.MISSING):
            raise TypedJsonError(f"{_place(place)} has no {field.name!r}")
    if unknown := sorted(value.keys() - hints.keys()):
        raise TypedJsonError(f"{_place(place)} has an unknown field {_shown(unknown[0])}")
    try:
        return kind(**made)
    except TypedJsonError:
        raise
    except ValueError as error:  # its own checks
        raise TypedJsonError(f"{_place(place)}: {error}") from error


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _sequence(origin: Any, arguments: tuple[Any, ...], value: object, place: str) -> Any:
    if not isinstance(value, list):
        raise _wrong(place, value, "a list")
    if origin is list or arguments[-1] is Ellipsis:
        kinds = (arguments[0],) * len(value)
    else:
        kinds = arguments
    if len(kinds) != len(value):
        raise _wrong(place, value, f"a list of {len(kinds)}")
    return origin(
        _convert(kind, v, f"{place}[{i}]")
        for i, (kind, v) in enumerate(zip(kinds, value, strict=True))
    )


def _mapping(arguments: tuple[Any, ...], value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    _, kind = arguments
    return {key: _convert(kind, inner, f"{place}[{_shown(key)}]") for key, inner in value.items()}


def _scalar(kind: Any, value: object, place: str) -> Any:
    if kind is Any:
        return value
    if kind is type(None):
        kind = types.NoneType
    if kind is float and type(value) is int:
        value = _as_float(value, place)
    if type(value) is not kind:  # not isinstance: true is no number
        raise _wrong(place, value, _NAMES.get(kind, str(kind)))
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(place, value, "a finite number")
    return value


def _as_float(value: int, place: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise _wrong(place, value, "a finite number") from None


def _constrained(kind: Any, constraints: tuple[Any, ...], value: object, place: str) -> Any:
    made = _convert(kind, value, place)
    for constraint in constraints:
        if isinstance(constraint, Matches) and not re.fullmatch(constraint.pattern, made):
            raise _wrong(place, value, f"of the form {constraint.pattern}")
        if isinstance(constraint, AtLeast) and made < constraint.smallest:
            raise _wrong(place, value, f"{constraint.smallest} or more")
    return made


def _first_that_fits(kinds: tuple[Any, ...], value: object, place: str) -> Any:
    failure = None
    for kind in kinds:
        try:
            return _convert(kind, value, place)
        except TypedJsonError as error:
            if kind is not types.NoneType:
                failure = failure or error
    assert failure is not None
    raise failure


_NAMES = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
    types.NoneType: "null",
}


def _wrong(place: str, value: object, wanted: str) -> TypedJsonError:
    return TypedJsonError(f"{_place(place)} is {_shown(value)}, not {wanted}")


def _place(place: str) -> str:
    return place or "it"


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
