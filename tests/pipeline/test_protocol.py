"""A small model of the protocol of publishing, of which every interleaving is explored.

Two writers of different runs, each of which may be killed at any step, or be taken for dead while
it is only paused; a store whose only conditional step is to replace a small file;
and a reader that may take its time. What the steps are stands in `docs/publishing.md`. The code is
held against the model by `test_publish.py` and `test_lease.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

BEFORE, FIRST, SECOND = "published before", "first run", "second run"
PIECES = ("part 0", "part 1", "manifest")


@dataclass(frozen=True)
class Writer:
    run: str
    at: str = "read lease"
    lives_left: int = 0
    """So often it may be begun again after it was killed."""
    seen: int | None = None
    """The version that it read last of what it is about to replace."""
    token: int = 0
    doomed: tuple[str, ...] = ()
    """What is left to remove."""


@dataclass(frozen=True)
class Reader:
    at: str = "read current"
    run: str | None = None
    times: int = 1


@dataclass(frozen=True)
class State:
    current: str
    token: int
    current_version: int
    lease: tuple[str, int] | None
    """Whose it is, and its version."""
    versions: int
    """So many were given out: no two of them are the same."""
    pieces: frozenset[tuple[str, str]]
    last: str | None
    """What was current before."""
    tokens: tuple[tuple[str, int], ...]
    """The highest token that each writer was given, for the invariants alone."""
    writers: tuple[Writer, Writer]
    reader: Reader


START = State(
    current=BEFORE,
    token=0,
    current_version=0,
    lease=None,
    versions=0,
    pieces=frozenset((BEFORE, piece) for piece in PIECES),
    last=None,
    tokens=(),
    writers=(Writer(FIRST), Writer(SECOND)),
    reader=Reader(),
)


class BrokenError(Exception):
    """What must never be so."""


def steps(state: State, rules: frozenset[str]) -> Iterator[State]:
    """All that may happen next."""
    for number, writer in enumerate(state.writers):
        if writer.at == "done":
            continue
        for after, changed in writer_steps(state, writer, rules):
            yield with_writer(after, number, changed)
        if writer.lives_left:  # killed, and begun again
            yield with_writer(state, number, Writer(writer.run, lives_left=writer.lives_left - 1))
        else:
            yield with_writer(state, number, replace(writer, at="done"))
    yield from reader_steps(state)


def with_writer(state: State, number: int, writer: Writer) -> State:
    writers = list(state.writers)
    writers[number] = writer
    return replace(state, writers=tuple(writers))  # type: ignore[arg-type]


def writer_steps(
    state: State, writer: Writer, rules: frozenset[str]
) -> Iterator[tuple[State, Writer]]:
    at, run = writer.at, writer.run
    if at == "read lease":
        # whoever holds it may look dead: a pause is not to be told from a death
        yield state, replace(writer, at="take lease", seen=state.lease and state.lease[1])
    elif at == "take lease":
        if (state.lease and state.lease[1]) == writer.seen:
            version = state.versions + 1
            taken = replace(state, lease=(run, version), versions=version)
            yield taken, replace(writer, at="read current")
        else:
            yield state, replace(writer, at="read lease")
    elif at == "read current":
        read = replace(writer, at="take token", seen=state.current_version, token=state.token + 1)
        yield state, read
    elif at == "take token":
        if state.current_version == writer.seen:
            version = state.versions + 1
            yield (
                replace(
                    state,
                    token=writer.token,
                    current_version=version,
                    versions=version,
                    tokens=(*state.tokens, (run, writer.token)),
                ),
                replace(writer, at=PIECES[0]),
            )
        else:
            yield state, replace(writer, at="read current")
    elif at in PIECES:
        following = (*PIECES[1:], "check token")[PIECES.index(at)]
        written = replace(state, pieces=state.pieces | {(run, at)})
        yield written, replace(writer, at=following)
    elif at == "check token":
        whole = all((run, piece) in state.pieces for piece in PIECES)
        if (state.token == writer.token or "no token" in rules) and whole:
            yield state, replace(writer, at="switch", seen=state.current_version)
        else:
            yield state, replace(writer, at="done")
    elif at == "switch":
        if state.current_version == writer.seen or "no condition" in rules:
            version = state.versions + 1
            if state.current != run and writer.token != state.token:
                raise BrokenError(f"{run} publishes with token {writer.token} of {state.token}")
            switched = replace(state, current=run, current_version=version, versions=version)
            if state.current != run:
                switched = replace(switched, last=state.current)
            yield switched, replace(writer, at="look for old")
        else:
            yield state, replace(writer, at="check token")
    elif at == "look for old":
        there = {name for name, _ in state.pieces}
        doomed = tuple(sorted(there - {state.current} - kept(state, rules)))
        yield state, replace(writer, at="remove old", doomed=doomed)
    elif at == "remove old":
        if not writer.doomed:
            yield state, replace(writer, at="give lease back")
        elif state.token != writer.token and "no check" not in rules:
            yield state, replace(writer, at="done")
        else:
            # between this check and its request there is no time for a lease to expire
            gone = frozenset(piece for piece in state.pieces if piece[0] != writer.doomed[0])
            yield replace(state, pieces=gone), replace(writer, doomed=writer.doomed[1:])
    elif at == "give lease back":
        mine = state.lease is not None and state.lease[0] == run
        yield replace(state, lease=None if mine else state.lease), replace(writer, at="done")


def kept(state: State, rules: frozenset[str]) -> set[str]:
    """The last run, and while somebody reads longer than that, what is within the time of grace."""
    if "no grace" in rules:
        return set()
    return {run for run in (state.last, state.reader.run) if run is not None}


def reader_steps(state: State) -> Iterator[State]:
    reader = state.reader
    if reader.at == "read current":
        yield replace(state, reader=replace(reader, at=PIECES[0], run=state.current))
    elif reader.at in PIECES[:2]:
        if (reader.run, reader.at) not in state.pieces:
            raise BrokenError(f"a reader of {reader.run} does not find its {reader.at}")
        if reader.at == PIECES[0]:
            yield replace(state, reader=replace(reader, at=PIECES[1]))
        elif reader.times:
            yield replace(state, reader=Reader(times=reader.times - 1))
        else:
            yield replace(state, reader=Reader(at="done", times=0))


def require_invariants(state: State) -> None:
    for piece in PIECES:
        if (state.current, piece) not in state.pieces:
            raise BrokenError(f"{state.current} is current without its {piece}")
    tokens = [token for _, token in state.tokens]
    if len(set(tokens)) != len(tokens):
        raise BrokenError("a token was given twice")


def normal(state: State) -> State:
    """The same with versions renumbered: only which are equal matters, not how many there were."""
    used = {state.current_version, *(writer.seen for writer in state.writers)}
    if state.lease:
        used.add(state.lease[1])
    number = {version: i for i, version in enumerate(sorted(v for v in used if v is not None))}
    writers = tuple(
        replace(w, seen=None if w.seen is None else number[w.seen]) for w in state.writers
    )
    return replace(
        state,
        current_version=number[state.current_version],
        lease=state.lease and (state.lease[0], number[state.lease[1]]),
        versions=len(number),
        tokens=(),
        writers=writers,  # type: ignore[arg-type]
    )


def explore(start: State = START, rules: frozenset[str] = frozenset()) -> tuple[int, set[str]]:
    """How many states there are, and what is current in those where all have ended."""
    seen, left, ends = {start}, [start], set()
    while left:
        state = left.pop()
        ended = True
        for following in steps(state, rules):
            ended = False
            require_invariants(following)
            following = normal(following)
            if following not in seen:
                seen.add(following)
                left.append(following)
        if ended:
            ends.add(state.current)
    return len(seen), ends


def test_no_interleaving_breaks_the_protocol() -> None:
    states, ends = explore()
    assert states > 10_000
    assert ends == {BEFORE, FIRST, SECOND}  # both killed, or either the last


@pytest.mark.slow
def test_nor_does_one_that_is_begun_again() -> None:
    again = replace(
        START, writers=(Writer(FIRST, lives_left=1), Writer(SECOND)), reader=Reader(times=0)
    )
    assert explore(again)[1] == {BEFORE, FIRST, SECOND}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("no token", "publishes with token"),
        ("no condition", "publishes with token"),
        ("no grace", "does not find its part"),
        ("no check", "is current without its|does not find its"),
    ],
)
def test_each_rule_is_needed(rule: str, words: str) -> None:
    """The model finds what goes wrong without it."""
    with pytest.raises(BrokenError, match=words):
        explore(rules=frozenset({rule}))
