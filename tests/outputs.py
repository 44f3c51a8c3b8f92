"""Outputs: what is current in one, and what is made by hand of two runs."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec

from glossator.pipeline.outputs.manifest import Manifest, OutputFile, Totals
from glossator.pipeline.outputs.publish import staging


def current(out: Path | str) -> Path:
    """The folder of the run that readers read."""
    folder = json.loads(Path(out, "_current.json").read_text())["manifest"]
    return Path(out, folder).parent


def part(index: int, digest: str) -> str:
    return f"part-{index:05d}-{digest * 12}.parquet"


OLD_RUN, NEW_RUN = "a" * 16, "b" * 16
OLD = {part(i, "a"): b"old %d" % i for i in range(3)} | {f"_rejects/{part(1, 'a')}": b"old no"}
NEW = {part(0, "a"): b"new 0", part(1, "b"): b"new one"} | {f"_rejects/{part(0, 'b')}": b"new no"}
"""Fewer files than OLD, of which one has the name of an old one."""


def manifest(run_id: str, content: dict[str, bytes]) -> Manifest:
    files = [OutputFile(name, 1, len(data), "0" * 64) for name, data in content.items()]
    return Manifest(
        run_id=run_id,
        model="m",
        options={},
        inputs=(),
        parts=tuple(file for file in files if "/" not in file.name),
        rejects=tuple(file for file in files if "/" in file.name),
        totals=Totals(0, 0, 0, 0, 0, {}),
        checks=(),
        labels={},
        metrics={},
        timings={},
        versions={},
    )


def stage(out: str, run_id: str, content: dict[str, bytes]) -> Manifest:
    fs, root = fsspec.core.url_to_fs(staging(out, run_id))
    for name, data in {**content, "_records/a.json": b"{}", f".a.{'0' * 32}.tmp": b"x"}.items():
        fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{root}/{name}", data)
    return manifest(run_id, content)


def tree(out: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(out)): p.read_bytes() if p.is_file() else None for p in out.rglob("*")
    }


def read(out: Path) -> dict[str, bytes] | None:
    """What a reader reads: the files of the run that is current; None if none is."""
    if not (out / "_current.json").exists():
        return None
    run = json.loads((out / "_current.json").read_text())["run"]
    if run is None:
        return None
    folder = out / "_runs" / run
    assert (folder / "_manifest.json").exists()
    files = [*folder.glob("part-*"), *folder.glob("_rejects/part-*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
