"""Data flows one way: the model knows nothing of Beam or of the job that uses it."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import glossator.model

FOLDER = Path(glossator.model.__file__).parent
FILES = {
    ".".join(("glossator.model", *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(FOLDER.rglob("*.py"))
}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_files_are_found() -> None:
    assert {"glossator.model", "glossator.model.engine", "glossator.model.train"} <= set(FILES)


@pytest.mark.parametrize("module", FILES)
def test_no_file_imports_beam_or_what_lies_above(module: str) -> None:
    for name in imported(FILES[module]):
        assert name.split(".")[0] != "apache_beam"
        assert not name.startswith("glossator.") or name.startswith("glossator.model")


def test_imports_go_downwards_only() -> None:
    graph = {module: set(imported(path)) & set(FILES) for module, path in FILES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("glossator.model.tokenizer") < order.index("glossator.model.engine")


def test_inference_needs_nothing_of_training() -> None:
    below, left = set(), ["glossator.model.labeller"]
    while left:
        module = left.pop()
        below.add(module)
        left += set(imported(FILES[module])) & set(FILES) - below
    assert "glossator.model.engine" in below
    assert not below & {f"glossator.model.{name}" for name in ("train", "baseline", "card")}


def test_importing_the_model_does_not_import_beam() -> None:
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] == 'apache_beam'\n"
        "    or name.startswith('glossator.pipeline')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *FILES], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
