"""Pinned files from the package index: found, downloaded and checked.

`pip download` would run an sdist's `setup.py` to learn its metadata. So the file's address is
looked up here, by the index's simple API (PEP 503 and PEP 691), under the settings that pip has.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

from glossator.model.errors import UsageError
from glossator.model.pip_settings import IndexSettings

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


class Fetcher:
    """Gets pinned archives, each once: from the cache, or else from the first index that has it."""

    def __init__(self, cache: Path, settings: IndexSettings) -> None:
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
            _check(archive, _digest(path), str(path), "delete that file and run it again")
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
                "check the connection and the room on the disk, and run it again"
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
                    "the package index is reached with the package 'requests': "
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
            f"it is not the file that is meant; {remedy}"
        )
