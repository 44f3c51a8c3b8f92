"""JSON checked against the dataclasses that it stands for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.model.typed_json import Count, Matches, TypedJsonError, from_json, loads


@dataclass(frozen=True)
class Inner:
    name: Annotated[str, Matches("[a-z]+")]
    size: Count = 0


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", 1]
    inner: tuple[Inner, ...]
    limit: int | float
    by_name: dict[str, dict[str, float]]
    note: str | None
    pair: tuple[int, str]
    flags: list[bool]
    anything: Any


VALID: dict[str, Any] = {
    "kind": "a",
    "inner": [{"name": "x", "size": 3}, {"name": "y"}],
    "limit": 0.5,
    "by_name": {"p": {"q": 1}},
    "note": None,
    "pair": [1, "two"],
    "flags": [True],
    "anything": {"deep": [1, None]},
}


def test_what_is_well_formed_becomes_the_dataclass() -> None:
    made = from_json(Outer, json.loads(json.dumps(VALID)))
    assert made.inner == (Inner("x", 3), Inner("y"))
    assert made.by_name == {"p": {"q": 1.0}} and type(made.by_name["p"]["q"]) is float
    assert (made.pair, made.flags, made.anything) == ((1, "two"), [True], {"deep": [1, None]})
    assert from_json(Outer, {**VALID, "limit": 3}).limit == 3
    assert type(from_json(Outer, {**VALID, "limit": 3}).limit) is int
    assert from_json(Outer, json.loads(json.dumps(asdict(made)))) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "b"}, r'kind is "b", not one of'),
        ({"kind": True}, r"kind is true, not one of"),
        ({"inner": {}}, r"inner is {}, not a list"),
        ({"inner": [7]}, r"inner\[0\] is 7, not an object"),
        ({"inner": [{}]}, r"inner\[0\] has no 'name'"),
        ({"inner": [{"name": "x", "size": "3"}]}, r'inner\[0\]\.size is "3", not an integer'),
        ({"inner": [{"name": "x", "size": True}]}, r"inner\[0\]\.size is true, not an integer"),
        ({"inner": [{"name": "x", "size": 1.0}]}, r"inner\[0\]\.size is 1\.0, not an integer"),
        ({"inner": [{"name": "x", "size": -1}]}, r"inner\[0\]\.size is -1, not 0 or more"),
        ({"inner": [{"name": "x\n"}]}, r"inner\[0\]\.name is .* not of the form"),
        ({"inner": [{"name": "x", "more": 1}]}, r'inner\[0\] has an unknown field "more"'),
        ({"limit": "1"}, r'limit is "1", not an integer'),
        ({"limit": float("nan")}, "limit is NaN, not an integer"),
        ({"by_name": {"p": {"q": float("inf")}}}, r'by_name\["p"\]\["q"\] is Infinity'),
        ({"by_name": {"p": {"q": 10**400}}}, r'by_name\["p"\]\["q"\] is 1000+\.\.\., not a finite'),
        ({"note": 3}, "note is 3, not a string"),
        ({"pair": [1]}, r"pair is \[1\], not a list of 2"),
        ({"flags": [0]}, r"flags\[0\] is 0, not true or false"),
    ],
)
def test_what_is_not_is_named_by_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TypedJsonError, match=message) as caught:
        from_json(Outer, {**VALID, **change})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff", b"nul", b"[]", b"7", b"[" * 100_000, b'{"a": ' * 100_000, b"9" * 10_000],
)
def test_text_that_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(TypedJsonError):
        loads(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from(sorted(VALID)), JSON)
def test_no_value_gives_another_error(field: str, value: object) -> None:
    try:
        made = from_json(Outer, {**VALID, field: value})
    except TypedJsonError:
        return
    assert isinstance(made, Outer)
