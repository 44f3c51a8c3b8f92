"""Which files are read: inputs become files, with counts of what was skipped, and why.

One rule holds for a folder, a glob and a file:

- Hidden names are skipped, as Spark, DuckDB and Arrow do: `.x`, and `_x` unless it is `_x=value`.
- `*.parquet`, `*.parq`, `*.pq` are read in any case of letters, all other files if they begin as
  Parquet does. A file that is named itself is read whatever its name.
- A link is what it leads to; a file that is reached twice is read once.
- An output of ours is no input. A table format's files are not read as if they were plain ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from typing import Any, NamedTuple

from glossator.model.errors import UsageError
from glossator.model.store import is_local, open_store, redacted, uri_below
from glossator.pipeline.causes import NO_BUCKET, is_no_bucket
from glossator.pipeline.errors import NotYetError
from glossator.pipeline.inputs.globs import EVERYTHING, Glob, State, split_glob
from glossator.pipeline.inputs.listing import (
    Entries,
    Entry,
    entries_below,
    entries_of,
    entry_of,
    is_hidden,
    real_path,
)
from glossator.pipeline.inputs.markers import is_output, lies_in_output, table_above, table_format

SUFFIXES = (".parquet", ".parq", ".pq")
"""In small letters: what is always tried."""
MAGIC = (b"PAR1", b"PARE")
"""How a Parquet file begins: as it is, and encrypted."""

_SUCCESS = "_SUCCESS"
_OURS = "output of Glossator"
_THREADS = 16


class InputFile(NamedTuple):
    """One file to read, as it was listed."""

    uri: str
    """As it may be shown and kept: without secrets, in valid Unicode."""
    location: str
    """The URI to open it by."""
    fs: Any
    path: str
    size: int
    fingerprint: str
    """Changes with the content; empty where only another question to the store would tell."""
    error: str | None
    """Why it can't be read, as far as a listing shows."""


@dataclass(frozen=True)
class Found:
    """What all inputs come to."""

    files: tuple[InputFile, ...]
    """In the order of their URIs, each once."""
    skipped: Mapping[str, int]
    """What was passed over, by reason."""
    empty: tuple[str, ...]
    """The inputs, as they may be shown, whose `_SUCCESS` says that there is nothing to read."""

    @property
    def locations(self) -> dict[str, str]:
        """How to open the files whose URI does not say it, by URI."""
        return {file.uri: file.location for file in self.files if file.uri != file.location}


def discover(
    inputs: Sequence[str], *, output: str | None = None, table_files: bool = False
) -> Found:
    """Finds the files that inputs name.

    Args:
        inputs: fsspec URIs of files, globs or folders.
        output: the folder that this run will write; nothing in it is read.
        table_files: read the files of a Delta, Iceberg or Hudi table as plain ones.

    Raises:
        NotYetError: an input names nothing, and there is nothing else wrong with the others.
        UsageError: an input may not be listed, is an output of ours, or lies in a table's folder.
    """
    if not inputs:
        raise UsageError("no input was given: name a file, a folder or a glob", parameter="inputs")
    search = _Search(open_store(output) if output else None, table_files)
    missing: list[NotYetError] = []
    for given in inputs:
        try:
            search.add(given)
        except NotYetError as error:  # what no waiting would mend in the others is said first
            missing.append(error)
        except PermissionError as error:
            raise _refusal(given, f"access denied ({error}): check the permissions") from error
        except FileNotFoundError as error:
            missing.append(_not_yet(given, f"gone since it was listed ({error}): run again"))
    if missing:
        raise missing[0]
    files: dict[str, InputFile] = {}
    for file in sorted(search.files.values(), key=lambda file: file.uri):
        if files.setdefault(file.uri, file) is not file:
            raise _refusal(
                file.uri,
                "two inputs are the same but for a password, a signature or a token:"
                " leave one out, or label them in two runs",
            )
    return Found(tuple(files.values()), dict(sorted(search.skipped.items())), tuple(search.empty))


def shown(uri: str) -> str:
    r"""A URI as it may be shown and kept: without secrets; bytes that are not UTF-8 as `\xff`."""
    if not uri.isascii():
        uri = uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return redacted(uri)


def counted(skipped: Mapping[str, int]) -> str:
    """Counts in words: `2 hidden, 1 not Parquet`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(skipped.items()))


def _refusal(given: str, what: str) -> UsageError:
    return UsageError(f"{shown(given)}: {what}", parameter="inputs")


def _not_yet(given: str, what: str) -> NotYetError:
    return NotYetError(f"{shown(given)}: {what}", parameter="inputs")


class _Search:
    """What was found in the inputs so far."""

    def __init__(self, output: tuple[Any, str] | None, table_files: bool) -> None:
        self.files: dict[tuple[int, str], InputFile] = {}
        """By store and real path."""
        self.skipped: Counter[str] = Counter()
        self.empty: list[str] = []
        self.table_files = table_files
        self._output = None if output is None else (output[0], real_path(*output).rstrip("/"))
        self.table_above = cache(table_above)
        self.lies_in_output = cache(lies_in_output)

    def add(self, given: str) -> None:
        """Finds the files of one input."""
        try:
            fs, path = open_store(given)
        except FileNotFoundError:  # an archive
            raise _not_yet(given, "no such archive is there: check the spelling") from None
        fs.invalidate_cache()  # a listing from an earlier run in this process may be out of date
        _Input(self, given, fs, path).find()

    def is_own(self, fs: Any, real: str) -> bool:
        """Whether a path lies in what this run writes."""
        if self._output is None or fs != self._output[0]:
            return False
        return f"{real.rstrip('/')}/".startswith(f"{self._output[1]}/")


@dataclass(frozen=True)
class _Folder:
    """A folder to go through."""

    path: str
    real: str
    """Without links."""
    glob: Glob
    state: State
    """How far the names down to this folder match the glob."""
    entries: Entries
    """How it is listed."""
    table: tuple[str, str] | None
    """The table in which it lies, and its format."""


class _Input:
    """One input and its files."""

    def __init__(self, search: _Search, given: str, fs: Any, path: str) -> None:
        self._search = search
        self._given = given
        self._fs = fs
        self._path = path
        self._skipped: Counter[str] = Counter()
        self._unsure: list[tuple[Entry, str]] = []
        """Files that may be Parquet or not, and the real paths of their folders."""
        self._found = 0
        self._others = 0
        """Files beside them that are neither hidden nor empty."""
        self._success = False

    def find(self) -> None:
        """Adds the files to the search.

        Raises:
            NotYetError: there are none.
            UsageError: they must not be read.
            OSError: the store refuses.
        """
        named = entry_of(self._fs, self._path)  # a file's name may hold the characters of a glob
        if named is None:
            if split := split_glob(self._path):
                self._walk(split[0], Glob(split[1]))
        elif named.kind == "folder":
            self._walk(self._path, EVERYTHING)
        else:
            self._take_named(named)
        self._sort_out_unsure()
        self._search.skipped.update(self._skipped)
        if not self._found:
            if not self._success or self._others:
                self._require_bucket()
                why = f" (skipped: {counted(self._skipped)})" if self._skipped else ""
                raise _not_yet(
                    self._given,
                    f"no Parquet file is there{why}: check the spelling, or run again once it has"
                    " come",
                )
            self._search.empty.append(shown(self._given))

    def _require_bucket(self) -> None:
        """Looks once more where nothing was found: some clients list a lost bucket as empty."""
        if is_local(self._fs):
            return
        folder = split_glob(self._path)
        try:
            self._fs.ls(folder[0] if folder else self._path, detail=False)
        except OSError as error:
            if is_no_bucket(error):
                raise self._refusal(NO_BUCKET) from error

    def _refusal(self, what: str) -> UsageError:
        return _refusal(self._given, what)

    def _take_named(self, entry: Entry) -> None:
        if entry.kind == "broken":
            raise _not_yet(self._given, f"is a link to nothing: {shown(entry.real)} is not there")
        if entry.kind == "other":
            raise self._refusal("is neither a file nor a folder: name what can be read again")
        folder = real_path(self._fs, self._path).rpartition("/")[0]
        self._refuse_ours(folder)
        self._refuse_table(self._table_above(folder))
        self._take(entry, folder)

    def _refuse_ours(self, folder: str) -> None:
        if self._search.is_own(self._fs, folder):
            raise self._refusal("lies in the output of this run: choose another output")
        if self._search.lies_in_output(self._fs, folder):
            raise self._is_ours()

    def _is_ours(self) -> UsageError:
        return self._refusal("is an output of Glossator: name the comments that it came from")

    def _table_above(self, folder: str) -> tuple[str, str] | None:
        return None if self._search.table_files else self._search.table_above(self._fs, folder)

    def _refuse_table(self, table: tuple[str, str] | None) -> None:
        if table:
            raise self._refusal(
                f"{shown(table[0])} is a table of {table[1]}, whose plain files may hold rows that"
                " were removed or replaced: export what is valid, or set table_files to read the"
                " files all the same"
            )

    def _walk(self, root: str, glob: Glob) -> None:
        fs, real = self._fs, real_path(self._fs, root)
        self._refuse_ours(real)
        named = entry_of(fs, root)
        if named is None or named.kind != "folder":
            return
        # a remote folder's own listing shows the rest
        table = self._table_above(real if is_local(fs) else real.rpartition("/")[0])
        whole = glob.recurses(glob.start)
        entries = entries_below(fs, root) if whole else entries_of(fs)
        folders = [_Folder(root, real, glob, glob.start, entries, table)]
        links: list[tuple[str, int, _Folder]] = []
        seen: set[tuple[str, Glob, State]] = set()
        while folders or links:
            # what stands there itself comes before what links lead to
            folder = folders.pop() if folders else heappop(links)[-1]
            if (folder.real, folder.glob, folder.state) in seen:
                self._skipped["duplicate"] += 1
                continue
            seen.add((folder.real, folder.glob, folder.state))
            for below, linked in self._through(folder, is_root=folder.path == root):
                if linked:
                    heappush(links, (below.path, len(seen), below))
                else:
                    folders.append(below)

    def _through(self, folder: _Folder, *, is_root: bool) -> Iterator[tuple[_Folder, bool]]:
        """Takes a folder's files; gives the folders in it that are meant, and which are links."""
        if self._search.is_own(self._fs, folder.real):
            self._skipped[_OURS] += 1
            return
        names = {entry.name: entry for entry in folder.entries(folder.path)}
        if is_output(self._fs, names, folder.entries):
            if is_root:
                raise self._is_ours()
            self._skipped[_OURS] += 1
            return
        glob, table = folder.glob, folder.table
        if table is None and not self._search.table_files:
            kind = table_format(names, folder.entries)
            table = (folder.path, kind) if kind else None
        for name, entry in sorted(names.items()):
            if entry.kind != "folder" and glob.may_end(folder.state):
                self._note(entry)
            # a step costs more than all else that is done for a file
            state = folder.state if glob is EVERYTHING else glob.step(folder.state, name)
            if not state:
                continue
            if is_hidden(name) and not glob.names_hidden:
                self._skipped["hidden"] += glob.ends(state) or entry.kind == "folder"
            elif entry.kind == "folder":
                yield from self._below(entry, state, folder, table)
            elif glob.ends(state):
                self._refuse_table(table)
                self._sort(entry, folder.real)

    def _note(self, entry: Entry) -> None:
        if entry.name == _SUCCESS:
            self._success = True
        elif not is_hidden(entry.name) and (entry.size or entry.kind != "file"):
            self._others += 1

    def _below(
        self, entry: Entry, state: State, above: _Folder, table: tuple[str, str] | None
    ) -> Iterator[tuple[_Folder, bool]]:
        """The folder that an entry names, and whether that is a link."""
        real = entry.real or self._real(entry, above.real)
        if entry.real:
            if self._search.lies_in_output(self._fs, real):
                self._skipped[_OURS] += 1
                return
            table = self._table_above(real)
        glob, entries = above.glob, above.entries
        if glob.ends(state):
            glob, state = EVERYTHING, EVERYTHING.start
        if glob.recurses(state) and not above.glob.recurses(above.state):
            entries = entries_below(self._fs, entry.path)
        yield _Folder(entry.path, real, glob, state, entries, table), bool(entry.real)

    def _sort(self, entry: Entry, folder: str) -> None:
        """Takes a file by its name, or keeps it to be looked into, or counts why not."""
        if entry.real and entry.kind == "file":
            target = entry.real.rpartition("/")[0]
            own = self._search.is_own(self._fs, target)
            if own or self._search.lies_in_output(self._fs, target):
                self._skipped[_OURS] += 1
                return
            self._refuse_table(self._table_above(target))
        if entry.kind == "other":
            self._skipped["neither file nor folder"] += 1
        elif entry.name.lower().endswith(SUFFIXES):
            self._take(entry, folder)
        elif entry.kind == "broken":
            self._skipped["link to nothing"] += 1
        elif not entry.size:
            self._skipped["empty"] += 1
        else:
            self._unsure.append((entry, folder))

    def _sort_out_unsure(self) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            first_bytes = pool.map(self._first_bytes, [entry for entry, _ in self._unsure])
            for (entry, folder), content in zip(self._unsure, first_bytes, strict=True):
                if content in MAGIC:
                    self._take(entry, folder)
                else:
                    self._skipped["not Parquet"] += 1

    def _first_bytes(self, entry: Entry) -> bytes:
        length = len(MAGIC[0])
        if not is_local(self._fs):
            content: bytes = self._fs.cat_file(entry.path, start=0, end=length)
            return content
        with open(entry.path, "rb") as file:  # noqa: PTH123 - the path is a string
            return file.read(length)

    def _take(self, entry: Entry, folder: str) -> None:
        broken = f"is a link to nothing: {shown(entry.real)} is not there"
        error = broken if entry.kind == "broken" else None
        location = uri_below(self._given, self._fs, entry.path)
        file = InputFile(
            shown(location),
            location,
            self._fs,
            entry.path,
            entry.size,
            entry.fingerprint,
            error,
        )
        real = entry.real if entry.real and not error else self._real(entry, folder)
        self._found += 1
        earlier = self._search.files.setdefault((id(self._fs), real), file)
        if earlier is not file:
            self._skipped["duplicate"] += 1
            # whatever the order of the inputs, the same name stays
            best = min(earlier, file, key=lambda one: (one.path != real, one.uri))
            self._search.files[id(self._fs), real] = best

    def _real(self, entry: Entry, folder: str) -> str:
        """The real path of what is no link, given that of its folder."""
        return f"{folder.rstrip('/')}/{entry.name}" if is_local(self._fs) else entry.path
