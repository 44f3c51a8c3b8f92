"""The network that `glossator export` writes, in ONNX Runtime; without the n-gram expert."""

from __future__ import annotations

from pathlib import Path

import glossator.pipeline.rivals.network as networks
from glossator.pipeline.rivals.running import Settings, in_processes, of_folder, run, write

_NETWORK = "network.onnx"


def get_ready(settings: Settings, folder: Path) -> None:
    """Exports the network."""
    from glossator.model import onnx_export  # takes torch, which labelling does without

    onnx_export.export(networks.get_ready(settings, folder), folder / _NETWORK)


def _label(path: str, folder: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(Path(folder) / _NETWORK), options, providers=["CPUExecutionProvider"]
    )
    tasks = set(of_folder(Path(folder)).tasks)
    outputs = [one.name for one in session.get_outputs()]
    asked = [name for name in outputs if name.rpartition(".")[0] in tasks]

    def run(ids: networks.Ints, lengths: networks.Ints) -> list[tuple[object, object]]:
        found = session.run(asked, {"ids": ids, "lengths": lengths})
        return list(zip(found[::2], found[1::2], strict=True))

    write(path, folder, networks.Loop(Path(folder), run))  # type: ignore[arg-type]


if __name__ == "__main__":
    run(in_processes(_label))
