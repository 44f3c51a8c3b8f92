"""Pinned files from the package index: found, downloaded, checked, and read without running them.

`pip download` would run an sdist's `setup.py` to learn its metadata. So the file's address is
looked up here, by the index's simple API (PEP 503 and PEP 691), under the settings pip has.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

from glossator.model.errors import UsageError

if TYPE_CHECKING:
    import requests

_ACCEPT = (
    "application/vnd.pypi.simple.v1+json, "
    "application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Archive:
    """One file of a public package, pinned."""

    project: str
    """The package's name on the index."""
    version: str
    """Its version; for the reader, as `filename` names it too."""
    filename: str
    """The sdist or wheel."""
    sha256: str
    """The digest of that file, in hexadecimal."""


@dataclass(frozen=True)
class Settings:
    """How packages are reached: what pip has been told."""

    indexes: tuple[str, ...]
    """Base addresses of simple indexes, tried in this order."""
    cert: str | None = None
    """A bundle of certificates to trust instead of the default."""
    proxy: str | None = None
    """A proxy for http and https; None leaves it to the environment."""
    timeout_secs: float = 15.0
    """How long to wait for a connection and for each further byte."""


def pip_settings() -> Settings:
    """What `pip config` and the `PIP_*` environment say, or pip's defaults."""
    options = {**_pip_config(), **_pip_environment()}
    if options.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        return Settings(indexes=())
    given = options.get("timeout") or options.get("default-timeout") or "15"
    try:
        timeout_secs = float(given)
    except ValueError as error:
        raise UsageError(
            f"pip's option timeout is {given!r}, which is no number of seconds: "
            "mend it in the environment (PIP_TIMEOUT) or with 'pip config set global.timeout 60'"
        ) from error
    main = options.get("index-url") or options.get("pypi-url") or _pip_default_index()
    return Settings(
        indexes=(main, *options.get("extra-index-url", "").split()),
        cert=options.get("cert") or None,
        proxy=options.get("proxy") or None,
        timeout_secs=timeout_secs,
    )


def _pip_config() -> dict[str, str]:
    return parse_pip_config(_pip("config", "list"))


def _pip_default_index() -> str:
    """The index that pip uses where it has been told none; its help is where it says so."""
    said = re.search(r"--index-url.*?\(default\s+(\S+?)\)", _pip("download", "--help"), re.DOTALL)
    if not said:
        raise UsageError(
            "no package index is known: install pip, or name one in PIP_INDEX_URL as for pip"
        )
    return said[1]


def _pip(*arguments: str) -> str:
    """What pip prints; nothing where there is no pip, as an environment need not have one."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    wide = {**os.environ, "COLUMNS": "1000"}
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, env=wide
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout


def parse_pip_config(listing: str) -> dict[str, str]:
    """The options that hold for a download, from what `pip config list` prints."""
    rank = {"global": 0, "download": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        name, equals, value = line.partition("=")
        section, dot, option = name.rpartition(".")
        if not (equals and dot and section in rank):
            continue
        if option not in found or found[option][0] <= rank[section]:
            found[option] = (rank[section], _unquoted(value))
    return {option: value for option, (_, value) in found.items()}


def _unquoted(value: str) -> str:
    try:
        return str(ast.literal_eval(value))
    except (SyntaxError, ValueError):
        return value


def _pip_environment() -> dict[str, str]:
    return {
        name[len("PIP_") :].lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name.startswith("PIP_") and value
    }


def default_cache() -> Path:
    """Where downloads are kept for the next build."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "glossator" / "corpora"


class Fetcher:
    """Gets pinned archives, each once: from the cache, or else from the first index that has it."""

    def __init__(self, cache: Path, settings: Settings) -> None:
        self._cache = cache
        self._settings = settings
        self._opened: requests.Session | None = None

    def get(self, archive: Archive) -> Path:
        """The archive's path in the cache, after its digest has been checked.

        Raises:
            UsageError: no index has the file, or its digest is not the pinned one.
        """
        path = self._cache / archive.filename
        if path.exists():
            _check(archive, _digest(path), str(path), "delete that file and build again")
            return path
        url = self._locate(archive)
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._cache, delete=False) as partial:
            temporary = Path(partial.name)
            try:
                digest = self._download(url, partial)
                remedy = (
                    "ask whoever runs that index or proxy; "
                    "with PIP_INDEX_URL another index can be named"
                )
                _check(archive, digest, public(url), remedy)
                partial.close()
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return path

    def _locate(self, archive: Archive) -> str:
        tried: list[str] = []
        for index in self._settings.indexes:
            page = f"{index.rstrip('/')}/{normalised_name(archive.project)}/"
            try:
                links = self._links(page)
            except OSError as error:
                tried.append(f"{public(page)}: {_reason(error)}")
                continue
            if archive.filename in links:
                return links[archive.filename]
            tried.append(f"{public(page)}: has no such file")
        raise UsageError(
            f"cannot find {archive.filename} of {archive.project} {archive.version} "
            f"({'; '.join(tried) or 'pip is configured with no-index'}): "
            "check the connection and pip's index-url, extra-index-url, proxy and cert"
        )

    def _links(self, page: str) -> dict[str, str]:
        if urlsplit(page).scheme == "file":
            content = _local(urljoin(page, "index.html")).read_bytes()
            return html_links(content.decode("utf-8"), page)
        with self._response(page, {"Accept": _ACCEPT}) as response:
            if "json" in response.headers.get("Content-Type", ""):
                return json_links(response.content, response.url)
            return html_links(response.text, response.url)

    def _download(self, url: str, target: IO[bytes]) -> str:
        digest = hashlib.sha256()
        try:
            for chunk in self._chunks(url):
                digest.update(chunk)
                target.write(chunk)
        except OSError as error:
            raise UsageError(
                f"the download of {public(url)} failed: {_reason(error)}: "
                "check the connection and the room on the disk, and build again"
            ) from error
        return digest.hexdigest()

    def _chunks(self, url: str) -> Iterator[bytes]:
        if urlsplit(url).scheme == "file":
            with _local(url).open("rb") as stream:
                yield from iter(lambda: stream.read(_CHUNK_BYTES), b"")
            return
        # identity: the digest is of the file, which a server may not wrap in a further gzip
        with self._response(url, {"Accept-Encoding": "identity"}) as response:
            yield from response.iter_content(_CHUNK_BYTES)

    @contextmanager
    def _response(self, url: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        settings = self._settings
        options: dict[str, Any] = {"timeout": settings.timeout_secs, "stream": True}
        # given with each request: a session's own yield to the environment's
        if settings.proxy:
            options["proxies"] = {"http": settings.proxy, "https": settings.proxy}
        if settings.cert:
            options["verify"] = settings.cert
        with self._session().get(url, headers=dict(headers), **options) as response:
            response.raise_for_status()
            yield response

    def _session(self) -> requests.Session:
        if self._opened is None:
            try:
                import requests
                from requests.adapters import HTTPAdapter
                from urllib3.util.retry import Retry
            except ImportError as error:
                raise UsageError(
                    "building the corpora needs the package 'requests': "
                    "pip install 'glossator[corpora]'"
                ) from error
            retries = Retry(total=3, backoff_factor=0.5, status_forcelist=(500, 502, 503, 504))
            self._opened = requests.Session()
            for scheme in ("http://", "https://"):
                self._opened.mount(scheme, HTTPAdapter(max_retries=retries))
        return self._opened


def _reason(error: OSError) -> str:
    """What went wrong, without the credentials an address in the message may hold."""
    words = str(error) or type(error).__name__
    return re.sub(r"(?<=//)[^/@\s]+@", "", words)


def public(url: str) -> str:
    """The address as it may be shown: without user, password and fragment."""
    parts = urlsplit(urldefrag(url).url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _local(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def normalised_name(project: str) -> str:
    """The name under which an index lists a project (PEP 503)."""
    return re.sub(r"[-_.]+", "-", project).lower()


def json_links(content: bytes, page: str) -> dict[str, str]:
    """File names and addresses of a project's page in JSON (PEP 691)."""
    try:
        return {
            file["filename"]: urljoin(page, file["url"]) for file in json.loads(content)["files"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{public(page)} is no project page of a package index ({error!r}): "
            "check pip's index-url and extra-index-url"
        ) from error


class _Anchors(HTMLParser):
    """Collects what the links of a page point to."""

    def __init__(self) -> None:
        super().__init__()
        self.base: str | None = None
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a link, or the address that links are relative to."""
        href = dict(attrs).get("href")
        if href and tag == "a":
            self.hrefs.append(href)
        elif href and tag == "base":
            self.base = href


def html_links(content: str, page: str) -> dict[str, str]:
    """File names and addresses of a project's page in HTML (PEP 503)."""
    anchors = _Anchors()
    anchors.feed(content)
    base = urljoin(page, anchors.base or "")
    urls = [urldefrag(urljoin(base, href)).url for href in anchors.hrefs]
    return {unquote(urlsplit(url).path.rpartition("/")[2]): url for url in urls}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _check(archive: Archive, found: str, origin: str, remedy: str) -> None:
    if found != archive.sha256:
        raise UsageError(
            f"{archive.filename} from {origin} has sha256 {found}, expected {archive.sha256}: "
            f"it is not the file this recipe was written for; {remedy}"
        )


def read_members(
    archive: Path | bytes, wanted: Callable[[str], bool] | Iterable[str]
) -> dict[str, bytes]:
    """The contents of an archive's files, in the order of their names; nothing touches the disk.

    Args:
        archive: a tar file (of any compression) or a zip file (a wheel), or its bytes.
        wanted: the exact names, all of which must be there, or a test of a name.

    Raises:
        UsageError: a name is not in the archive.
    """
    names = None if callable(wanted) else frozenset(wanted)
    chosen = wanted if callable(wanted) else frozenset(wanted).__contains__
    origin = archive.name if isinstance(archive, Path) else "the archive within"
    stream: IO[bytes] = archive.open("rb") if isinstance(archive, Path) else io.BytesIO(archive)
    with stream:
        found = dict(sorted(_members(stream, chosen)))
    if missing := sorted((names or frozenset()) - set(found)):
        raise UsageError(
            f"{origin} holds no {missing[0]!r}: it is not the file this recipe expects"
        )
    return found


def _members(stream: IO[bytes], chosen: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as pack:
            for name in pack.namelist():
                if chosen(name):
                    yield name, pack.read(name)
        return
    stream.seek(0)
    with tarfile.open(fileobj=stream) as pack:
        for member in pack:
            # a link could name a file outside; only what the archive itself holds is read
            content = pack.extractfile(member) if member.isreg() and chosen(member.name) else None
            if content is not None:
                yield member.name, content.read()
