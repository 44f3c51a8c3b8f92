"""N-gram experts for tests: of random weights, for bundles that were trained without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from glossator.model.bundle import Bundle
from glossator.model.ngrams import Reader, array_types, buckets, tags
from glossator.model.tasks import Task

BITS = 10


def with_expert(
    bundle: Bundle, tasks: Sequence[Task], texts: Sequence[str], weight: float = 0.7
) -> Bundle:
    """The bundle with an expert for some tasks that knows n-grams of some texts."""
    random = np.random.default_rng(5)
    arrays = {
        name: random.integers(-128, 128, shape).astype(np.int8)
        if kind == "I8"
        else random.normal(size=shape).astype(np.float32) / 50
        for name, (kind, shape) in array_types(BITS, tasks).items()
    }
    known = np.zeros(1 << BITS, np.uint8)
    for _, _, kinds in Reader(bundle.tokenizer).blocks(bundle.tokenizer.encode(texts)):
        for grams in kinds:
            hashes = grams.hashes[grams.inside]
            known[buckets(hashes, BITS)] = tags(hashes)
    calibration = dict(bundle.calibration)
    for task in tasks:
        calibration[task.name] = replace(calibration[task.name], expert=weight)
    return replace(bundle, calibration=calibration, ngrams={**arrays, "tags": known})
