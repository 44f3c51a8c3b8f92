"""A fastText model a task, of word bigrams and characters 2 to 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from glossator.pipeline.rivals.running import (
    Settings,
    in_processes,
    learning,
    of_folder,
    run,
    write,
)


def get_ready(settings: Settings, folder: Path) -> None:
    """Fits them."""
    import fasttext

    texts, labels = learning(settings)
    lines = folder / "lines.txt"
    for i, of_task in enumerate(labels.values()):
        known = sorted(set(of_task))
        (folder / f"{i}.json").write_text(json.dumps(known))
        pairs = zip(of_task, texts, strict=True)
        lines.write_text(
            "\n".join(f"__label__{known.index(label)} {_line(text)}" for label, text in pairs)
        )
        model = fasttext.train_supervised(
            str(lines), wordNgrams=2, minn=2, maxn=4, thread=settings.workers, verbose=0
        )
        model.save_model(str(folder / f"{i}.bin"))


def _line(text: str) -> str:
    return " ".join(text.split())


def _label(path: str, folder: str) -> None:
    import fasttext

    fasttext.FastText.eprint = lambda _: None
    models = {
        name: (
            fasttext.load_model(f"{folder}/{i}.bin"),
            np.array(json.loads(Path(f"{folder}/{i}.json").read_text())),
        )
        for i, name in enumerate(of_folder(Path(folder)).tasks)
    }

    def answer(texts: list[str]) -> dict[str, Any]:
        lines = [_line(text) for text in texts]
        answers: dict[str, Any] = {}
        for name, (model, known) in models.items():
            labels, confidence = model.predict(lines)
            index = [int(one[0].removeprefix("__label__")) for one in labels]
            answers[name] = known[index]
            answers[f"{name}_confidence"] = np.array([one[0] for one in confidence], np.float32)
        return answers

    write(path, folder, answer)


if __name__ == "__main__":
    run(in_processes(_label))
