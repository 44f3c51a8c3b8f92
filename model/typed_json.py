"""JSON that somebody may have damaged or forged, checked against the dataclasses it stands for.

Annotations say it all: `Annotated[str, Matches(r"[0-9a-f]{64}")]`, `Annotated[int, AtLeast(0)]`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, cast

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


_NESTED = (dict, list, tuple)
_TYPES = frozenset(_NESTED)
_MARK = "\0"
_encode_marked = json.JSONEncoder(ensure_ascii=False, separators=(_MARK, ": ")).encode
_encode = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` would make one each time


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


def dumps(content: dict[str, Any]) -> str:
    """The JSON of an object, a line for each record in it: it can be read, and is soon written."""
    return f"{_text(content, '')}\n"


def _text(value: Any, indent: str) -> str:
    """Its JSON, where what holds no object or list within another is on one line."""
    if isinstance(value, dict):
        if _is_flat(value.values()):
            return _encode(value)
        lines = [f"{_encode(key)}: {_text(one, f'{indent} ')}" for key, one in value.items()]
        begin, end = "{}"
    elif isinstance(value, _NESTED):
        if _is_flat(value):
            return _encode(value)
        lines = _records(list(value)) or [_text(one, f"{indent} ") for one in value]
        begin, end = "[]"
    else:
        return _encode(value)
    between = f",\n{indent} "
    return f"{begin}\n{indent} {between.join(lines)}\n{indent}{end}"


def _records(values: Sequence[Any]) -> list[str]:
    """The JSON of each of a list's objects, if all are flat, else nothing.

    Tens of thousands are encoded at once: with a mark between values that JSON never holds.
    """
    if set(map(type, values)) != {dict}:
        return []
    inner = map(type, itertools.chain.from_iterable(map(dict.values, values)))
    if not _TYPES.isdisjoint(inner):
        return []
    text = _encode_marked(values)[2:-2].replace(f"}}{_MARK}{{", "\n").replace(_MARK, ", ")
    return [f"{{{one}}}" for one in text.split("\n")]


def _is_flat(values: Iterable[Any]) -> bool:
    """Whether no value holds others; it is asked of each of tens of thousands of records."""
    return _TYPES.isdisjoint(map(type, values)) or not any(
        one for one in values if isinstance(one, _NESTED)
    )


def from_json(kind: type[_T], value: object) -> _T:
    """A dataclass from what `json.loads` gives for it, with every type in it checked.

    Understands dataclasses, `tuple[X, ...]`, `list`, `dict` with keys that are strings, unions,
    `Literal`, `Annotated` with `Matches` and `AtLeast`, and `Any`. A float may be written without
    a fraction, and is finite. A field that is not there has to have a default; one that the
    dataclass lacks is an error.

    Raises:
        TypedJsonError: names the first place that is wrong, e.g. `inputs[3].size`.
    """
    try:
        made: _T = _converter(cast(Hashable, kind))(value)
    except _WrongError as error:
        raise TypedJsonError(f"{error.place or 'it'} {error.what}") from error.__cause__
    return made


class _WrongError(Exception):
    """What is wrong with a value; its place is put together on the way out."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.place = ""

    def below(self, place: str) -> _WrongError:
        """The same, seen from what holds the value at `place`."""
        dot = "." if self.place and not self.place.startswith("[") else ""
        self.place = f"{place}{dot}{self.place}"
        return self


_Converter = Callable[[object], Any]


@functools.cache
def _converter(kind: Any) -> _Converter:
    """What makes values of an annotation out of those of JSON; made once, for there are many."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _constrained(arguments[0], arguments[1:])
    if origin is Union or origin is types.UnionType:
        return _first_that_fits(arguments)
    if origin is Literal:
        return _literal(arguments)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if origin in (tuple, list):
        return _sequence(origin, arguments)
    if origin is dict:
        return _mapping(arguments[1])
    return _scalar(kind)


def _literal(choices: tuple[Any, ...]) -> _Converter:
    def convert(value: object) -> Any:
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise _wrong(value, f"one of {', '.join(map(repr, choices))}")
        return value

    return convert


def _dataclass(kind: Any) -> _Converter:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    converters = {field.name: _converter(hints[field.name]) for field in fields}
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    required = [field.name for field in fields if (field.default, field.default_factory) == missing]
    needed = frozenset(required)

    def convert(value: object) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, "an object")
        if not needed <= value.keys():
            raise _WrongError(f"has no {next(name for name in required if name not in value)!r}")
        if unknown := value.keys() - converters.keys():
            raise _WrongError(f"has an unknown field {_shown(min(unknown))}")
        made = {}
        name = ""
        try:
            for name, inner in value.items():
                made[name] = converters[name](inner)
        except _WrongError as error:
            raise error.below(name) from error.__cause__
        try:
            return kind(**made)
        except TypedJsonError:
            raise
        except ValueError as error:  # its own checks
            raise _WrongError(f"is wrong: {error}") from error

    return convert


def _sequence(origin: Any, arguments: tuple[Any, ...]) -> _Converter:
    endless = origin is list or arguments[-1] is Ellipsis
    converters = [_converter(argument) for argument in arguments if argument is not Ellipsis]

    def convert(value: object) -> Any:
        if not isinstance(value, list):
            raise _wrong(value, "a list")
        if not endless and len(value) != len(converters):
            raise _wrong(value, f"a list of {len(converters)}")
        if endless:
            with suppress(_WrongError):  # where is said below
                return origin(map(converters[0], value))
        made: list[Any] = []
        each = itertools.repeat(converters[0]) if endless else converters
        try:
            for inner, converter in zip(value, each, strict=False):
                made.append(converter(inner))
        except _WrongError as error:
            raise error.below(f"[{len(made)}]") from error.__cause__
        return origin(made)

    return convert


def _mapping(kind: Any) -> _Converter:
    converter = _converter(kind)

    def convert(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(value, "an object")
        made = {}
        for key, inner in value.items():
            try:
                made[key] = converter(inner)
            except _WrongError as error:
                raise error.below(f"[{_shown(key)}]") from error.__cause__
        return made

    return convert


def _scalar(kind: Any) -> _Converter:
    wanted = types.NoneType if kind is type(None) else kind

    def convert(value: object) -> Any:
        if type(value) is wanted and wanted is not float:  # first, for there are many
            return value
        if wanted is Any:
            return value
        if wanted is float and type(value) is int:
            value = _as_float(value)
        if type(value) is not wanted:  # not isinstance: true is no number
            raise _wrong(value, _NAMES.get(wanted, str(wanted)))
        if isinstance(value, float) and not math.isfinite(value):
            raise _wrong(value, "a finite number")
        return value

    return convert


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise _wrong(value, "a finite number") from None


def _constrained(kind: Any, constraints: tuple[Any, ...]) -> _Converter:
    converter = _converter(kind)
    patterns = [re.compile(c.pattern) for c in constraints if isinstance(c, Matches)]
    smallest = [c.smallest for c in constraints if isinstance(c, AtLeast)]

    def convert(value: object) -> Any:
        made = converter(value)
        for pattern in patterns:
            if not pattern.fullmatch(made):
                raise _wrong(value, f"of the form {pattern.pattern}")
        for least in smallest:
            if made < least:
                raise _wrong(value, f"{least} or more")
        return made

    return convert


def _first_that_fits(kinds: tuple[Any, ...]) -> _Converter:
    converters = [_converter(kind) for kind in kinds if kind is not types.NoneType]
    optional = types.NoneType in kinds

    def convert(value: object) -> Any:
        if optional and value is None:
            return None
        failure = None
        for converter in converters:
            try:
                return converter(value)
            except _WrongError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    return convert


_NAMES = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
    types.NoneType: "null",
}


def _wrong(value: object, wanted: str) -> _WrongError:
    return _WrongError(f"is {_shown(value)}, not {wanted}")


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
