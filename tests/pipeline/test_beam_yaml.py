from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_lines import shell
from sample_comments import answer_alone

from glossator.model import bundle as bundles
from glossator.model.labeller import Labeller

for package in ("docstring_parser", "jinja2", "jsonschema", "pandas"):
    pytest.importorskip(package, reason=f"Beam YAML needs {package}: install the extra yaml")

from apache_beam.yaml import main  # noqa: E402 - it needs them

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "yaml" / "label.yaml"

pytestmark = pytest.mark.usefixtures("deadline")


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    files = sorted(folder.glob(f"{name}*"))
    assert files
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the sample where the example looks for it."""
    (tmp_path / "examples").mkdir()
    shutil.copy(EXAMPLES / "comments.parquet", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path) -> Callable[..., None]:
    """Runs a pipeline in this process, which spares the imports."""

    def run(pipeline: str, *arguments: str) -> None:
        main.run([f"--yaml_pipeline={pipeline}", "--runner=FnApiRunner", *arguments])

    return run


def of(bundle: Path, pipeline: str | None = None, tasks: str = "[themes, stars]") -> str:
    """The example, or another pipeline, with a bundle and its tasks."""
    text = pipeline or EXAMPLE.read_text()
    return text.replace("model: default", f"model: {bundle}").replace("[topic, sentiment]", tasks)


def test_example_runs_as_it_stands(here: Path) -> None:
    shutil.copytree(EXAMPLES / "yaml", here / "examples" / "yaml")
    (command,) = re.findall(r"^#   python (.*)$", EXAMPLE.read_text(), re.M)
    done = shell(*command.split(), cwd=here)
    assert done.returncode == 0, done.stderr
    model = Labeller(bundles.load(bundles.DEFAULT), ["topic", "sentiment"])
    given = pq.read_table(EXAMPLES / "comments.parquet").to_pylist()
    assert rows(here / "labelled-yaml", "labels") == [
        {**row, **answer_alone(model, row["comment"])}
        for row in given
        if (row["comment"] or "").strip()
    ]
    assert rows(here / "labelled-yaml", "rejects") == [
        {"id": 26, "comment": None, "reason": "null", "detail": None},
        {"id": 27, "comment": "   ", "reason": "empty", "detail": None},
    ]


def test_all_kinds_of_tasks(here: Path, run: Callable[..., None], bundle: Path) -> None:
    tasks = "[sentiment, gender, themes, stars]"
    run(of(bundle, tasks=tasks))
    names = ["sentiment", "gender", "themes", "stars"]
    model = Labeller(bundles.load(bundle), names)
    labels = rows(here / "labelled-yaml", "labels")
    assert [row["id"] for row in labels] == list(range(26))
    for row in labels:
        assert {name: row[name] for name in names} == answer_alone(model, row["comment"])
    assert len(rows(here / "labelled-yaml", "rejects")) == 2


HANDLING = "        error_handling:\n          output: rejected\n"


def test_outputs_by_name(here: Path, run: Callable[..., None], bundle: Path) -> None:
    pipeline = of(bundle).replace(HANDLING, "")
    run(pipeline.replace("input: LabelComments\n", "input: LabelComments.labelled\n"))
    assert len(rows(here / "labelled-yaml", "labels")) == 26
    assert len(rows(here / "labelled-yaml", "rejects")) == 2


def test_labels_can_be_used_in_expressions(
    here: Path, run: Callable[..., None], bundle: Path
) -> None:
    step = """
    - type: Filter
      input: LabelComments
      config:
        language: python
        keep: "stars.attention[0].start > 10"
"""
    run(of(bundle))
    rows_of_all = rows(here / "labelled-yaml", "labels")
    run(of(bundle).replace("input: LabelComments\n", "input: Filter\n") + step)
    kept = rows(here / "labelled-yaml", "labels")
    assert kept == [row for row in rows_of_all if row["stars"]["attention"][0]["start"] > 10]
    assert 0 < len(kept) < len(rows_of_all)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((HANDLING, ""), "Ambiguous output .*LabelComments has outputs .'labelled', 'rejected'"),
        (("LabelComments.rejected", "LabelComments"), "Unconsumed error output"),
        (("output: rejected", "output: rejected\n          threshold: 1"), "and nothing else"),
        (("text: comment", "text: id"), "the rows: column 'id' is "),
        (("text: comment", "txt: comment"), "unexpected argument 'txt'"),
        (("[themes, stars]", "[tone]"), "unknown task 'tone'; the model has: sentiment"),
    ],
)
def test_what_is_wrong_is_said(
    run: Callable[..., None], bundle: Path, change: tuple[str, str], message: str
) -> None:
    pipeline = of(bundle)
    assert change[0] in pipeline
    with pytest.raises(Exception, match=message):
        run(pipeline.replace(*change))


def test_document_runs(here: Path, run: Callable[..., None]) -> None:
    document = (EXAMPLES.parent / "docs" / "compose.md").read_text()
    (pipeline,) = re.findall(r"^```yaml\n(.*?)^```$", document, re.M | re.S)
    run(pipeline)
    assert len(rows(here / "out", "yaml-labels")) == 26
    assert len(rows(here / "out", "yaml-rejects")) == 2
    (command,) = re.findall(r"^#   (python .*)$", EXAMPLE.read_text(), re.M)
    assert f"```sh\n{command}\n```" in document
