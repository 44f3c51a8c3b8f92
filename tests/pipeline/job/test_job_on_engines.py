"""The job's steps as an engine runs them: in other processes, twice, in other stores."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from apache_beam.internal import pickler
from command_lines import glossator
from labelled_outputs import PUBLIC, good, manifest, rejects, rows

from glossator.model.bundle import load
from glossator.model.labeller import Labeller
from glossator.model.tasks import select_tasks
from glossator.pipeline import job
from glossator.pipeline.engines.progress import Silent
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.label import SplitLabelling
from glossator.pipeline.options import LabelOptions, beam_options
from glossator.pipeline.outputs.staging import save_plan
from glossator.pipeline.transforms import LabelSplits, ListSplits, Publication, Publish


@pytest.fixture
def publication(folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path) -> Publication:
    assert folder
    digest, out = load(bundle).digest, tmp_path / "out"
    plan = make_plan([str(tmp_path / "in")], text=None, keys=["id"], identity="x")
    staging = f"{out}/_runs/{plan.run_id}"
    tasks = select_tasks(load(bundle).tasks, PUBLIC)
    labelling = SplitLabelling(str(bundle), digest, tasks, "text", 5, plan.columns, staging)
    save_plan(plan, staging)
    return Publication(str(out), plan.run_id, labelling, {"text": "text"}, {}, 0.0)


ELSEWHERE = """
import pickle, sys
from apache_beam.internal import pickler
listing, label, publish = map(pickler.loads, pickle.load(sys.stdin.buffer))
label.setup()
splits = list(listing.process(b""))
assert len(splits) > 1
label.start_bundle()
done = [name for split in splits for name in label.process(split)]
done += [output.value for output in label.finish_bundle()]
assert sorted(done) == sorted(split.name for split in splits)
assert not list(listing.process(b""))
(manifest,) = publish.process(len(done))
(again,) = publish.process(len(done))  # a retry after all is done
assert manifest == again
assert not list(listing.process(b""))  # and one of the whole job
print(manifest.totals.rows_labelled)
"""


def test_functions_travel_to_another_process_without_the_model(
    publication: Publication, bundle: Path
) -> None:
    label, publish = LabelSplits(publication.labelling), Publish(publication)
    label.setup()  # what one process has loaded does not travel
    sent = [pickler.dumps(stage) for stage in (ListSplits(publication), label, publish)]
    weights = (bundle / "model.safetensors").stat().st_size
    # as small for a million splits as for one: the plan lies in staging
    assert [len(data) < min(5_000, weights) for data in sent] == [True, True, True]
    run = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=pickle.dumps(sent),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    count = len(rows(Path(publication.output)))
    assert int(run.stdout) == count > 0


def test_the_engine_and_the_manifest_count_alike(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--input", tmp_path / "in", "--output", out, "--model", bundle, "--json")
    account = json.loads(good(glossator("label", *arguments)))
    counted, totals = manifest(out)["metrics"], manifest(out)["totals"]
    assert account["engine"] == account["metrics"] == counted
    counters, distributions = counted["counters"], counted["distributions"]
    for name in ("rows_read", "rows_labelled", "rows_rejected"):
        assert counters[name] == totals[name] > 0
    assert counters["rows_unreadable"] == 0
    assert counters["rejects_null"] == 2 and counters["rejects_empty"] == 3
    texts = [[text for text in some if text and text.strip()] for some in folder.values()]
    assert counters["distinct_texts"] == sum(len(set(some)) for some in texts)
    alone = Labeller(load(bundle))
    tokens = [int(alone.label([text]).tokens[0]) for some in texts for text in set(some)]
    assert counters["tokens"] == sum(tokens) <= counters["padded_tokens"]
    shares = [round(100 * len(set(some)) / len(some)) for some in texts if some]
    distinct = distributions["distinct_percent"]
    assert distinct["count"] == len(shares) and distinct["sum"] == sum(shares)
    assert (distinct["min"], distinct["max"]) == (min(shares), max(shares))
    assert 0 < distributions["batch_fill_percent"]["max"] <= 100
    for stage in ("read", "tokenize", "ngrams", "network", "summarise", "arrow", "write"):
        assert distributions[f"{stage}_ms"]["count"] == len(shares)  # none of a file without rows


class Lines(Silent):
    """Keeps what is announced."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, line: str) -> None:
        self.said.append(line)


@pytest.mark.usefixtures("deadline")
def test_splits_that_are_done_are_not_done_again(
    folder: dict[Path, list[str | None]],
    tmp_path: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of four splits are labelled by a run that ends there; the next does the other two."""
    assert folder
    from glossator.pipeline import running
    from glossator.pipeline.errors import JobError
    from glossator.pipeline.label import label_split

    inputs = (str(tmp_path / "in"),)
    options = LabelOptions(
        inputs=inputs, output=str(tmp_path / "out"), model=str(bundle), workers=1
    )
    done: list[str] = []

    def stops(split: Any, *more: Any) -> Any:
        if len(done) == 2:
            raise OSError("the store went away")
        record = label_split(split, *more)
        done.append(split.ranges[0].source)
        return record

    monkeypatch.setattr(running, "label_split", stops)
    with pytest.raises(JobError, match=r"the store went away.*run it again to resume") as caught:
        job.run(options, beam_options([], 1), Silent())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    first = list(done)
    done.clear()
    monkeypatch.setattr(
        running,
        "label_split",
        lambda s, *more: done.append(s.ranges[0].source) or label_split(s, *more),
    )
    lines = Lines()
    outcome = job.run(options, beam_options([], 1), lines)
    assert outcome.resumed_splits == 2 and "resuming: 2 are done" in lines.said[0]
    assert sorted(first + done) == sorted(str(path) for path in folder)


def test_input_output_and_model_may_lie_in_another_store(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "in"), "/job/in", recursive=True)
    memory.put(str(bundle), "/job/model", recursive=True)
    flags = ("label", "--input=memory://job/in", "--output=memory://job/out", "--key=id")
    good(glossator(*flags, "--model=memory://job/model"))
    here = tmp_path / "out"
    local = ("label", f"--input={tmp_path / 'in'}", f"--output={here}", "--key=id")
    good(glossator(*local, f"--model={bundle}"))
    try:
        there = tmp_path / "fetched"
        memory.get("/job/out", str(there), recursive=True)
        assert (there / "_SUCCESS").exists() and not memory.exists("/job/out/_lease.json")
        for ours, theirs in ((rows(here), rows(there)), (rejects(here), rejects(there))):
            assert {row.pop("source_file").split(":")[0] for row in theirs} == {"memory"}
            assert theirs == [{k: v for k, v in row.items() if k != "source_file"} for row in ours]
        assert "nothing was done" in good(glossator(*flags, "--model=memory://job/model"))
    finally:
        memory.rm("/job", recursive=True)
