"""The job's network as a plain loop in PyTorch, without the n-gram expert."""

from __future__ import annotations

from pathlib import Path

import glossator.pipeline.rivals.network as networks
from glossator.model import bundle as bundles
from glossator.pipeline.rivals.running import Settings, in_processes, of_folder, run, write


def get_ready(settings: Settings, folder: Path) -> None:
    """Nothing is left to learn."""
    networks.get_ready(settings, folder)


def loop(folder: Path) -> networks.Loop:
    """What answers texts."""
    import torch

    settings = of_folder(folder)
    network = bundles.load(settings.model).network()

    @torch.inference_mode()
    def run(ids: networks.Ints, lengths: networks.Ints) -> list[tuple[object, object]]:
        given = network(torch.from_numpy(ids), torch.from_numpy(lengths))
        return [
            (one.logits.numpy(), one.attention.numpy())
            for name, one in given.items()
            if name in settings.tasks
        ]

    return networks.Loop(folder, run)  # type: ignore[arg-type]


def _label(path: str, folder: str) -> None:
    write(path, folder, loop(Path(folder)))


if __name__ == "__main__":
    run(in_processes(_label))
