"""The page of a training run: whole, true to the figures, safe with any text, and in a browser."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import EVIL, VISIBLE_BOXES, Page, offline, opened
from sample_comments import TASKS, labelled_rows

from glossator.model import bundle as bundles
from glossator.model.bundle import Bundle
from glossator.model.errors import UsageError
from glossator.model.evaluation import faithfulness, swaps
from glossator.model.evaluation.evaluate import evaluate, predict
from glossator.model.labelled import overview
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.report import frame
from glossator.model.report import page as report


def dataset(count: int, prefix: str = "") -> Dataset:
    """Made-up comments, half of them test rows, of two languages; every third without stars."""
    made = labelled_rows(count, seed=4)
    themes = [[float(name in row["themes"]) for name in TASKS[2].labels] for row in made]
    stars = np.array([row["stars"] if i % 3 else np.nan for i, row in enumerate(made)], np.float32)
    return Dataset(
        texts=[prefix + row["text"] for row in made],
        labels={
            "sentiment": np.array([TASKS[0].labels.index(row["sentiment"]) for row in made]),
            "gender": np.array([TASKS[1].labels.index(row["gender"]) for row in made]),
            "themes": np.array(themes, np.float32),
            "stars": stars,
        },
        split=np.array(["test" if i % 2 else "train" for i in range(count)]),
        lang=np.array(["zh" if i % 4 == 1 else "en" for i in range(count)]),
        source=np.full(count, "made up"),
    )


def measured(bundle: Bundle, data: Dataset) -> Bundle:
    """The bundle with everything that a training run measures."""
    rows = data.select(data.split == "test")
    test = evaluate(bundle.tasks, rows, predict(Labeller(bundle, list(data.labels)), rows.texts))
    entry = {
        "lang": "en",
        "direction": "male to female",
        "texts": 31,
        "label": "neg",
        "flipped": [0.125, 0.1, 0.2],
        "change": [0.05, 0.04, 0.06],
        "shift": [-0.03, -0.04, -0.02],
    }
    duel = {
        "verdict": "better",
        "slices": {"all": {"rows": 9, "difference": {"accuracy": [0.0321, 0.01, 0.05]}}},
    }
    metrics = {
        "test": test,
        "baseline": {"sentiment": test["sentiment"]},
        "duel": {"sentiment": duel, "stars": {"verdict": "skipped", "why": "no rows to learn"}},
        "faithfulness": faithfulness.measure(bundle, rows, texts=8),
        "swaps": {"sentiment": [entry], "gender": swaps.measure(bundle, rows.texts)["gender"]},
    }
    found = overview.describe(data, bundle.tasks).to_json()
    return replace(
        bundle, metrics=metrics, provenance={**bundle.provenance, "labels_overview": found}
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset(120)


@pytest.fixture(scope="module")
def whole(trained: Bundle, data: Dataset) -> Bundle:
    return measured(trained, data)


@pytest.fixture(scope="module")
def content(whole: Bundle, data: Dataset) -> str:
    return report.render(whole, data)


def test_it_is_one_page_that_fetches_nothing(content: str) -> None:
    offline(content)


def test_every_chart_has_a_name_and_its_figures_beside_it(content: str) -> None:
    page = Page(content)
    charts = page.all("svg")
    # loss, mean and four tasks; then quality of four tasks, reliability of three, attention of four
    assert len(charts) == 6 + 4 + 3 + 4
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert content.count("<desc>") == content.count("<summary>") == len(charts)
    assert len(page.all("figure")) == len(charts)


def test_figures_are_those_of_the_bundle(whole: Bundle, data: Dataset, content: str) -> None:
    text = "\n".join(Page(content).text)
    for task in whole.tasks:
        value, low, high = whole.metrics["test"][task.name]["all"][task.rules.headline[0]]
        assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in text
        assert faithfulness.sentence(whole.metrics["faithfulness"][task.name]) in text
    assert "+0.032 [+0.010, +0.050]" in text
    assert "skipped: no rows to learn" in text
    assert swaps.sentence(whole.metrics["swaps"]["sentiment"]) in text
    # a third of the rows has no stars
    assert sum(np.isnan(data.labels["stars"])) == 40
    assert re.search(r"<tr><th[^>]*>stars</th>(<td[^>]*>80</td>){4}</tr>", content)
    cells = "".join(f"<td>{count}</td>" for count in (40, 0, 40, 40))
    assert f'<tr><th scope="row">stars</th>{cells}</tr>' in content


def test_labels_that_are_missing_by_source_are_warned_of(trained: Bundle) -> None:
    data = dataset(200)
    data = replace(data, source=np.array(["a" if i < 100 else "b" for i in range(200)]))
    data.labels["stars"][100:] = np.nan
    found = overview.describe(data, TASKS)
    assert found.warnings()
    bundle = replace(
        trained, provenance={"labels_overview": json.loads(json.dumps(found.to_json()))}
    )
    text = "\n".join(Page(report.render(bundle, data)).text)
    assert all(line in text for line in found.warnings())


def test_reliability_is_counted_from_the_answers(
    whole: Bundle, data: Dataset, content: str
) -> None:
    rows = data.select(data.split == "test")
    given = predict(Labeller(whole, ["sentiment"]), rows.texts)["sentiment"]
    truth = rows.labels["sentiment"]
    sure = [(max(row), row.argmax() == label) for row, label in zip(given, truth, strict=True)]
    for tenth in range(5, 10):
        inside = [(c, r) for c, r in sure if tenth / 10 <= c < (tenth + 1) / 10 + (tenth == 9)]
        if inside:
            cells = [
                f"{tenth * 10}% to {tenth * 10 + 10}%</th>",
                f"<td>{len(inside)}</td>",
                f"<td>{np.mean([c for c, _ in inside]):.3f}</td>",
                f"<td>{np.mean([r for _, r in inside]):.3f}</td>",
            ]
            assert "".join(cells) in content


def test_the_worst_mistake_comes_first(trained: Bundle, data: Dataset) -> None:
    """Every label is turned round: the surest answer is the worst mistake."""
    turned = replace(data, labels={**data.labels, "sentiment": 1 - data.labels["sentiment"]})
    rows = data.select(data.split == "test")
    given = predict(Labeller(trained, ["sentiment"]), rows.texts)["sentiment"].max(axis=1)
    section = report.render(trained, turned).split('id="task-sentiment"')[1]
    mistakes = section.split("<h3>Worst mistakes</h3>")[1].split("</section>")[0]
    first = Page(mistakes.split("</li>")[0] + "</li></ol>")
    quoted = "".join(first.text).split("answer ")[1]
    words = re.sub(r"\d+%", "", quoted.replace("\n", " ")).split()[1:]
    assert " ".join(words) == rows.texts[int(given.argmax())]


def test_marks_are_what_spoke_most(trained: Bundle, data: Dataset) -> None:
    rows = data.select(data.split == "test")
    content = report.render(trained, data)
    section = content.split('id="task-stars"')[1].split("<h3>Examples</h3>")[1]
    first = section.split("</li>")[0]
    row = int(np.flatnonzero(~np.isnan(rows.labels["stars"]))[0])
    words = Labeller(trained, ["stars"]).label([rows.texts[row]]).tasks[0].words
    expected = sorted(
        (int(start), rows.texts[row][start:end], f"{weight:.0%}")
        for start, end, weight in zip(words.start, words.end, words.weight, strict=True)
    )
    found = re.findall(r"<mark[^>]*>([^<]*)<small>([^<]*)</small></mark>", first)
    assert [(text.replace("&#39;", "'"), weight) for text, weight in found] == [
        (text, weight) for _, text, weight in expected
    ]


def test_nothing_in_the_data_is_taken_for_markup(trained: Bundle) -> None:
    data = dataset(30, prefix=f"{EVIL} ")
    data = replace(data, lang=np.full(30, EVIL), source=np.full(30, EVIL))
    bundle = replace(
        measured(trained, data),
        tasks=(replace(trained.tasks[0], labels=("neg", "<b>&b"), limits=EVIL), *TASKS[1:]),
        provenance={"name": EVIL, "rows": {}, "sources": {EVIL: 3}, "history": []},
    )
    content = report.render(bundle, data)
    page = Page(content)
    assert not page.open
    assert not page.all("img")
    assert not page.all("script")
    assert "\u202e" not in content
    assert "\x1b" not in content
    text = "".join(page.text)
    assert '<img src=x onerror="alert(1)">&amp;\\u202e\\x1b[31m' in text
    assert "<b>&b" in text


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_run_without_figures_has_a_page_too(trained: Bundle, count: int) -> None:
    bare = replace(trained, provenance={}, metrics={})
    data = dataset(9)
    rows = data.select(np.arange(count))
    rows = replace(rows, split=np.full(count, "validation", "<U10"))
    content = report.render(bare, rows)
    page = Page(content)
    assert not page.open
    text = "".join(page.text)
    assert "Nothing was measured" in text
    assert ("of the validation split" in text) == (count > 0)


def test_figures_that_are_not_finite_are_left_out(whole: Bundle, data: Dataset) -> None:
    history = [{"epoch": 1, "loss": None, "mean": 0.5, "scores": {"sentiment": float("nan")}}]
    test: dict[str, Any] = {"stars": {"all": {"rows": 3, "mae": [1.0, 0.5, 2.0], "r2": None}}}
    bundle = replace(whole, provenance={"history": history}, metrics={"test": test})
    content = report.render(bundle, data)
    assert "nan" not in content
    assert "1.000 [0.500, 2.000]" in content


def test_a_task_of_very_many_labels_keeps_the_page_small(trained: Bundle, data: Dataset) -> None:
    size = 400
    names = tuple(f"label {i}" for i in range(size))
    confusion = np.random.default_rng(0).integers(0, 9, (size, size))
    confusion[7, 9] = 1234
    counted = {key: [1] * size for key in ("rows", "given", "precision", "recall")}
    metrics = {
        "rows": 9,
        "accuracy": [0.5, 0.4, 0.6],
        "confusion": confusion.tolist(),
        "by_label": counted,
    }
    task = replace(trained.tasks[0], labels=names)
    bundle = replace(
        trained,
        tasks=(task,),
        weights={
            name: np.resize(array, (size, *array.shape[1:])) if ".output." in name else array
            for name, array in trained.weights.items()
            if not re.match(r"heads\.(?!sentiment)", name)
        },
        metrics={"test": {"sentiment": {"all": metrics}}},
    )
    content = report.render(bundle, data)
    assert '<th scope="row">label 7</th><td>label 9</td><td>1,234</td>' in content
    assert "rows more are not shown" in content
    assert len(content) < 100_000


def test_a_bundle_is_the_same_with_its_report(
    trained: Bundle, content: str, tmp_path: Path
) -> None:
    digest = bundles.save(trained, tmp_path)
    report.write(content, str(tmp_path))
    assert (tmp_path / report.NAME).read_text(encoding="utf-8") == content
    assert bundles.load(tmp_path, digest).digest == digest
    assert bundles.save(trained, tmp_path) == digest


def test_what_is_missing_is_said(
    trained: Bundle, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert not frame.available()
    with pytest.raises(UsageError, match=r"pip install 'glossator\[report\]'"):
        report.render(trained, data)


# ---------------------------------------------------------------- in a browser


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_asking_for_anything(
    chromium: Any, content: str, tmp_path: Path, width: int, scheme: str
) -> None:
    file = tmp_path / report.NAME
    file.write_text(content, encoding="utf-8")
    with opened(chromium, file, width, scheme) as tab:
        charts = tab.evaluate(VISIBLE_BOXES)
        assert len(charts) == content.count("<svg")
        for chart in charts:
            assert chart["area"] > 10_000
            assert chart["shapes"] > 4


@pytest.mark.browser
def test_a_browser_runs_nothing_of_the_data(chromium: Any, trained: Bundle, tmp_path: Path) -> None:
    data = dataset(20, prefix=EVIL)
    file = tmp_path / report.NAME
    file.write_text(report.render(replace(trained, metrics={}), data), encoding="utf-8")
    tab = chromium.new_page()
    opened: list[Any] = []
    tab.on("dialog", lambda dialog: opened.append(dialog))
    tab.goto(file.as_uri())
    assert tab.evaluate("() => document.images.length + document.scripts.length") == 0
    assert not opened
    tab.close()
