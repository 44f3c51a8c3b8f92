"""Flink itself, laid out from packages of the Python package index; nothing is installed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from glossator.model.archives import read_members
from glossator.model.cache import cache_folder
from glossator.model.errors import UsageError
from glossator.model.package_index import Archive, Fetcher
from glossator.model.pip_settings import pip_settings

VERSION = "1.19.3"

_LIBRARIES = Archive(
    "apache-flink-libraries",
    VERSION,
    f"apache-flink-libraries-{VERSION}.tar.gz",
    "4a58e3a1fb7d83340bc96b6c080624c6d792d69fae5d294b96224775204a9c60",
)
# only its scripts and settings are read, which are the same in the wheels of all platforms
_SCRIPTS = Archive(
    "apache-flink",
    VERSION,
    f"apache_flink-{VERSION}-cp311-cp311-manylinux_2_5_x86_64.manylinux1_x86_64"
    ".manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "ff572c6ffa3867c21b8a455aefb50c53c91973fd0408df594ca26cb0a7bebc77",
)


def flink(report: Callable[[str], None]) -> Path:
    """Flink's folder in the user's cache: `bin`, `conf`, `lib`, `opt` and `plugins`.

    It is got once, appears whole or not at all, and is shared by all clusters.

    Raises:
        UsageError: no index has the packages, or not as they are known here.
    """
    cache = cache_folder()
    folder = cache / f"flink-{VERSION}"
    if " " in str(folder):
        raise UsageError(
            f"{folder}: Flink's scripts cannot stand in a folder with a space in its name: "
            "name another cache in XDG_CACHE_HOME"
        )
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".flink-") as name:
        temporary = Path(name)
        fetcher = Fetcher(temporary / "archives", pip_settings())
        report(f"getting Flink {VERSION} from the package index: 233 MB, kept in {folder}")
        scripts, libraries = fetcher.get(_SCRIPTS), fetcher.get(_LIBRARIES)
        report("unpacking")
        laid_out = temporary / folder.name
        _unpack(scripts, "pyflink/", ("bin", "conf"), laid_out)
        deps = f"{_LIBRARIES.project}-{VERSION}/deps/"
        _unpack(libraries, deps, ("bin", "lib", "licenses", "opt", "plugins"), laid_out)
        for script in (laid_out / "bin").iterdir():
            script.chmod(0o755)
        try:
            laid_out.rename(folder)
        except OSError:
            if not folder.is_dir():  # else somebody was faster, with the same
                raise
    return folder


def _unpack(archive: Path, prefix: str, folders: tuple[str, ...], target: Path) -> None:
    """Writes the files of some folders of an archive, without the prefix of their names."""
    wanted = tuple(f"{prefix}{folder}/" for folder in folders)
    for name, content in read_members(archive, lambda name: name.startswith(wanted)).items():
        path = target / name[len(prefix) :]
        if name.endswith("/") or ".." in path.parts:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
