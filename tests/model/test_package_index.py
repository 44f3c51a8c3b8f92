"""The package index: files found through a real one (on disk or on localhost), checked, read."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from package_indexes import Served, publish, tar_gz, without_pip_configuration

from glossator.model.archives import read_members
from glossator.model.errors import UsageError
from glossator.model.package_index import (
    Archive,
    Fetcher,
    html_links,
    json_links,
    normalised_name,
)
from glossator.model.pip_settings import IndexSettings, parse_pip_config, pip_settings


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Served]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    open_servers: list[Served] = []

    def start(folder: Path) -> Served:
        open_servers.append(Served(folder))
        return open_servers[-1]

    yield start
    for server in open_servers:
        server.close()


@pytest.fixture
def plain_pip(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """pip without this machine's configuration."""
    without_pip_configuration(monkeypatch)
    return monkeypatch


# ---------------------------------------------------------------- pip's settings


def test_without_configuration_the_settings_are_pips_defaults(
    plain_pip: pytest.MonkeyPatch,
) -> None:
    from pip._internal.models.index import PyPI  # where pip itself holds its default

    assert pip_settings() == IndexSettings((PyPI.simple_url,), None, None, 15.0)


def test_the_settings_are_those_of_pips_environment(plain_pip: pytest.MonkeyPatch) -> None:
    plain_pip.setenv("PIP_INDEX_URL", "https://main.test/simple")
    plain_pip.setenv("PIP_EXTRA_INDEX_URL", "https://a.test/simple file:///b/simple")
    plain_pip.setenv("PIP_CERT", "/etc/ca.pem")
    plain_pip.setenv("PIP_PROXY", "http://proxy.test:3128")
    plain_pip.setenv("PIP_TIMEOUT", "7")
    assert pip_settings() == IndexSettings(
        ("https://main.test/simple", "https://a.test/simple", "file:///b/simple"),
        "/etc/ca.pem",
        "http://proxy.test:3128",
        7.0,
    )


def test_the_settings_are_those_of_pips_file(plain_pip: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://file.test/simple\n")
    plain_pip.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert pip_settings().indexes == ("https://file.test/simple",)
    plain_pip.setenv("PIP_INDEX_URL", "https://environment.test/simple")
    assert pip_settings().indexes == ("https://environment.test/simple",)


def test_no_index_means_no_index(plain_pip: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain_pip.setenv("PIP_NO_INDEX", "1")
    settings = pip_settings()
    assert settings.indexes == ()
    with pytest.raises(UsageError, match=r"cannot find x\.tar\.gz of x 1\.0 .*no-index"):
        Fetcher(tmp_path, settings).get(Archive("x", "1.0", "x.tar.gz", "0" * 64))


def test_a_timeout_that_is_no_number_is_named(plain_pip: pytest.MonkeyPatch) -> None:
    plain_pip.setenv("PIP_TIMEOUT", "soon")
    with pytest.raises(UsageError, match=r"timeout is 'soon'.*PIP_TIMEOUT"):
        pip_settings()


def test_a_nearer_section_of_pips_configuration_wins() -> None:
    listing = (
        ":env:.cert='/e.pem'\nglobal.cert='/g.pem'\ndownload.timeout='9'\nglobal.timeout='3'\n"
        "install.index-url='https://no.test'\nglobal.index-url='https://yes.test/a=b'\n"
    )
    assert parse_pip_config(listing) == {
        "cert": "/e.pem",
        "timeout": "9",
        "index-url": "https://yes.test/a=b",
    }


# ---------------------------------------------------------------- finding the file


def test_links_of_an_html_page_are_resolved() -> None:
    page = "https://index.test/simple/a/"
    content = (
        '<a href="../../files/a-1.tar.gz#sha256=ff">a</a> <a href="https://o.test/a%2B2.whl">b</a>'
    )
    assert html_links(content, page) == {
        "a-1.tar.gz": "https://index.test/files/a-1.tar.gz",
        "a+2.whl": "https://o.test/a%2B2.whl",
    }
    based = '<base href="https://cdn.test/x/"><a href="a-1.tar.gz">a</a>'
    assert html_links(based, page) == {"a-1.tar.gz": "https://cdn.test/x/a-1.tar.gz"}


def test_links_of_a_json_page_are_resolved() -> None:
    content = json.dumps({"files": [{"filename": "a-1.tar.gz", "url": "../f/a-1.tar.gz"}]})
    links = json_links(content.encode(), "https://index.test/simple/a/")
    assert links == {"a-1.tar.gz": "https://index.test/simple/f/a-1.tar.gz"}
    with pytest.raises(UsageError, match=r"^https://index\.test/a/ is no project page.*index-url"):
        json_links(b'{"error": 1}', "https://user:secret@index.test/a/")


def test_project_names_are_normalised() -> None:
    assert normalised_name("Orange3.Text__x") == "orange3-text-x"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_comes_from_the_first_index_that_has_it(
    serve: Callable[[Path], Served], tmp_path: Path, as_json: bool
) -> None:
    content = gzip.compress(b"text" * 1000)
    archive = publish(tmp_path / "b", "Some_Pack", "some-1.0.tar.gz", content)
    (tmp_path / "a").mkdir()
    first, second = serve(tmp_path / "a"), serve(tmp_path / "b")
    if as_json:
        page = {
            "files": [{"filename": archive.filename, "url": f"{second.url}/files/some-1.0.tar.gz"}]
        }
        (tmp_path / "b/simple/some-pack/index.html").write_text(json.dumps(page))
    settings = IndexSettings((f"{first.url}/simple", f"{second.url}/simple/"), timeout_secs=10)
    path = Fetcher(tmp_path / "cache", settings).get(archive)
    assert path.read_bytes() == content
    assert [asked for asked, _ in first.asked] == ["/simple/some-pack/"]
    assert [asked for asked, _ in second.asked] == ["/simple/some-pack/", "/files/some-1.0.tar.gz"]
    assert second.asked[0][1].startswith("application/vnd.pypi.simple.v1+json")
    # what has been downloaded needs no index any more, and nothing else was left behind
    second.close()
    assert Fetcher(tmp_path / "cache", IndexSettings(())).get(archive) == path
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["some-1.0.tar.gz"]


def test_a_file_that_no_index_has_names_every_index_tried_but_no_password(tmp_path: Path) -> None:
    publish(tmp_path, "pack", "pack-2.0.tar.gz", b"")
    settings = IndexSettings(
        ((tmp_path / "simple").as_uri(), "http://user:secret@127.0.0.1:9/simple"), timeout_secs=1
    )
    with pytest.raises(UsageError) as caught:
        Fetcher(tmp_path / "cache", settings).get(Archive("pack", "1.0", "pack-1.0.tar.gz", "0"))
    message = str(caught.value)
    assert message.startswith("cannot find pack-1.0.tar.gz of pack 1.0 (file://")
    assert "simple/pack/: has no such file; http://127.0.0.1:9/simple/pack/: " in message
    assert message.endswith(
        "check the connection and pip's index-url, extra-index-url, proxy and cert"
    )
    assert "secret" not in message


def test_a_download_with_another_digest_is_refused_and_not_kept(tmp_path: Path) -> None:
    archive = publish(tmp_path, "pack", "pack-1.0.tar.gz", b"as published")
    (tmp_path / "files" / archive.filename).write_bytes(b"tampered with")
    found = hashlib.sha256(b"tampered with").hexdigest()
    fetcher = Fetcher(tmp_path / "cache", IndexSettings(((tmp_path / "simple").as_uri(),)))
    digests = f"sha256 {found}, expected {archive.sha256}"
    with pytest.raises(UsageError, match=rf"^pack-1\.0\.tar\.gz from file:.*{digests}.*PIP_INDEX"):
        fetcher.get(archive)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_changed_in_the_cache_is_refused(tmp_path: Path) -> None:
    archive = publish(tmp_path, "pack", "pack-1.0.tar.gz", b"as published")
    fetcher = Fetcher(tmp_path / "cache", IndexSettings(((tmp_path / "simple").as_uri(),)))
    fetcher.get(archive).write_bytes(b"rotten")
    with pytest.raises(UsageError, match=rf"cache/pack-1\.0.*{archive.sha256}.*delete that file"):
        fetcher.get(archive)


# ---------------------------------------------------------------- reading archives


def test_members_are_read_by_exact_name(tmp_path: Path) -> None:
    members = {"p/b.txt": b"b", "p/a.txt": b"a", "q/p/a.txt": b"other"}
    (tmp_path / "p.tar.gz").write_bytes(tar_gz(members))
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as pack:
        for name, content in members.items():
            pack.writestr(name, content)
    for archive in (tmp_path / "p.tar.gz", tmp_path / "p.whl", tar_gz(members)):
        assert read_members(archive, ["p/a.txt"]) == {"p/a.txt": b"a"}
        by_test = read_members(archive, lambda name: name.startswith("p/"))
        assert list(by_test.items()) == [("p/a.txt", b"a"), ("p/b.txt", b"b")]
        with pytest.raises(UsageError, match=r"holds no 'p/c\.txt'"):
            read_members(archive, ["p/a.txt", "p/c.txt"])


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with tarfile.open(tmp_path / "p.tar", "w") as pack:
        link = tarfile.TarInfo("p/a.txt")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        pack.addfile(link)
    with pytest.raises(UsageError, match=r"p\.tar holds no 'p/a\.txt'"):
        read_members(tmp_path / "p.tar", ["p/a.txt"])
