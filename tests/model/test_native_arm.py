"""The native library for ARM gives the bits that it gives here: by an emulator."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import NETWORKS, config_of
from numpy.typing import NDArray

import glossator.model
from glossator.model.native import library
from glossator.model.native.engine import NativeEngine, _parts
from glossator.model.network import AttentionRNN
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokens

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
SOURCES = Path(glossator.model.__path__[0]) / "native"
ARRAYS = (
    *("table", "before", "nothing", "recurrent", "new_bias", "projection", "projection_bias"),
    *("queries", "present"),
)

pytestmark = [
    pytest.mark.skipif(not library.built(), reason="no compiler"),
    pytest.mark.skipif(
        not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
        reason=f"needs {COMPILER} and {EMULATOR}",
    ),
]


class Arm(library.Kernels):
    """Lays out arrays as the library for ARM wants them; it computes on this processor."""

    def __init__(self) -> None:
        super().__init__("portable")
        self._here = library.Kernels("portable")
        self.lanes = 4

    def affine(
        self, x: NDArray[np.float32], weights: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return self._here.affine(x, weights, bias)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arm") / "score"
    flags = ("-std=gnu11", "-O2", "-ffp-contract=off", "-static", "-include", "string.h")
    sources = [*sorted(SOURCES.glob("*.c")), Path(__file__).parent / "native_arm.c"]
    subprocess.run([COMPILER, *flags, "-o", path, *sources, "-lm"], check=True)
    return path


@pytest.mark.parametrize("width", ["neon", "portable"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits_on_arm(
    program: Path,
    tasks: tuple[Task, ...],
    make_tokens: Callable[..., Tokens],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    width: str,
) -> None:
    torch.manual_seed(1)
    network = AttentionRNN(config_of(name, 500, 12, 36), tasks).eval()
    tokens = make_tokens([*range(1, 30), 40, 7], seed=3)
    tokens = Tokens(tokens.ids % 500, tokens.offsets)
    (rows,) = _parts(tokens.lengths, 1 << 20)
    random = np.random.default_rng(1)
    leaning = {
        task.name: random.normal(size=(len(tokens), task.outputs)).astype(np.float32)
        for task in tasks
    }

    weights, config = network.weights(), network.config
    here = NativeEngine(weights, config, tasks).run(
        tokens,
        [task.name for task in tasks],
        leaning=lambda name, texts, _: leaning[name][np.argsort(rows)[texts]],
    )
    expected = b""
    for scores in here.scores.values():
        assert scores.contributions
        for array in (scores.logits, *scores.contributions):
            expected += array.tobytes()

    if width == "neon":
        monkeypatch.setattr("glossator.model.native.engine.Kernels", lambda _: Arm())
        engine = NativeEngine(weights, config, tasks, "arm")
    else:
        engine = NativeEngine(weights, config, tasks, "portable")
    sizes = [getattr(engine._network, field) for field, _ in library.Network._fields_[:10]]
    arrays = [np.array(sizes, np.int64), *(engine._arrays[one] for one in ARRAYS)]
    for head in engine._heads:
        arrays += [head.weights, head.bias, head.constant, head.by_attended]
    arrays += [rows, tokens.ids, tokens.offsets, *leaning.values()]
    given, made = tmp_path / "given", tmp_path / "made"
    with given.open("wb") as file:
        for array in arrays:
            content = np.ascontiguousarray(array).tobytes()
            file.write(np.int64(len(content)).tobytes() + content)
    code = str(library.WIDTHS.index(width))
    subprocess.run([EMULATOR, program, given, made, code], check=True)
    assert made.read_bytes() == expected
