"""Data flows one way: `deploy` uses `pipeline`, which uses `model`, which knows nothing of Beam."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYERS = ("model", "pipeline", "deploy")
"""Each may import what stands before it."""
FOLDERS = ("inputs", "outputs", "gates", "engines", "night_report")
"""Of the pipeline; each may use what stands before it."""
MODEL_FOLDERS = ("labelled", "evaluation", "training", "report")
"""Of the model; each may use what stands before it, and of the rest only the commands use them."""
BEAMLESS = (
    "gates.audit",
    "inputs.plan",
    "inputs.read",
    "label",
    "outputs.manifest",
    "outputs.publish",
    "outputs.schema",
    "outputs.staging",
    "outputs.write",
    "tables",
)
"""Modules of the pipeline that need no Beam."""


def modules_of(layer: str) -> dict[str, Path]:
    folder = Path(importlib.import_module(f"glossator.{layer}").__path__[0])
    return {
        ".".join(
            ("glossator", layer, *path.relative_to(folder).with_suffix("").parts)
        ).removesuffix(".__init__"): path
        for path in sorted(folder.rglob("*.py"))
    }


FILES = {name: path for layer in LAYERS for name, path in modules_of(layer).items()}


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


def modules_after(code: str, *arguments: str) -> set[str]:
    """The modules that a new process has loaded after running `code`."""
    program = f"import sys\n{code}\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_the_files_are_found() -> None:
    assert {"glossator.model.engine", "glossator.pipeline.job", "glossator.deploy.settings"} <= set(
        FILES
    )


@pytest.mark.parametrize("module", FILES)
def test_no_file_imports_what_lies_above(module: str) -> None:
    layer = module.split(".")[1]
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    for name in imported(FILES[module]):
        first, *rest = name.split(".")
        assert first != "apache_beam" or layer != "model"
        assert first != "glossator" or rest[0] in allowed


def test_imports_have_no_circle() -> None:
    graph = {module: set(imported(path)) & set(FILES) for module, path in FILES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("glossator.model.network") < order.index("glossator.pipeline.job")


def test_folders_of_the_pipeline_have_no_circle() -> None:
    graph: dict[str, set[str]] = {folder: set() for folder in FOLDERS}
    for module, path in FILES.items():
        if (folder := folder_of(module)) is not None:
            graph[folder] |= {other for name in imported(path) if (other := folder_of(name))}
    edges = {folder: others - {folder} for folder, others in graph.items()}
    assert list(graphlib.TopologicalSorter(edges).static_order()) == list(FOLDERS)


def folder_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["pipeline"] and parts[2:3] and parts[2] in FOLDERS else None


@pytest.mark.parametrize("module", modules_of("model"))
def test_folders_of_the_model_use_what_stands_before_them(module: str) -> None:
    own = model_folder_of(module)
    if module == "glossator.model.cli":
        return
    allowed = MODEL_FOLDERS[: MODEL_FOLDERS.index(own) + 1] if own else ()
    assert {model_folder_of(name) for name in imported(FILES[module])} <= {None, *allowed}


def model_folder_of(module: str) -> str | None:
    parts = module.split(".")
    found = parts[1:2] == ["model"] and parts[2:3] and parts[2] in MODEL_FOLDERS
    return parts[2] if found else None


def test_inference_needs_nothing_of_training() -> None:
    below, left = set(), ["glossator.model.labeller"]
    while left:
        module = left.pop()
        below.add(module)
        left += set(imported(FILES[module])) & set(FILES) - below
    assert "glossator.model.engine" in below
    assert {model_folder_of(module) for module in below} == {None}


IMPORT_ALL = "import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)"


def test_importing_the_model_does_not_import_beam() -> None:
    loaded = modules_after(IMPORT_ALL, *modules_of("model"))
    assert "apache_beam" not in loaded
    assert not [name for name in loaded if name.startswith("glossator.pipeline")]


def test_what_needs_no_beam_imports_without_it() -> None:
    loaded = modules_after(IMPORT_ALL, *(f"glossator.pipeline.{name}" for name in BEAMLESS))
    assert "apache_beam" not in loaded
