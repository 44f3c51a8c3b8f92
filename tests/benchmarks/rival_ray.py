"""A rival: Ray Data, `map_batches` with an actor a core, of the plain loop in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from glossator.pipeline.rivals import torch_loop
from glossator.pipeline.rivals.running import BATCH, Settings, run

get_ready = torch_loop.get_ready


class Labeller:
    """What an actor holds."""

    def __init__(self, folder: str) -> None:
        self._answer = torch_loop.loop(Path(folder))

    def __call__(self, batch: pa.Table) -> Any:
        return pa.table(self._answer(batch.column("text").to_pylist()))


def _label(settings: Settings, folder: Path) -> None:
    import ray

    # one more: what reads and writes would wait for ever for a core of the actors'
    ray.init(num_cpus=settings.workers + 1, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    (
        ray.data.read_parquet(settings.source, columns=["text"])
        .map_batches(
            Labeller,
            fn_constructor_args=(str(folder),),
            batch_size=BATCH,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=settings.workers),
        )
        .write_parquet(str(folder / "out"))
    )
    ray.shutdown()


if __name__ == "__main__":
    run(_label)
