"""What lies in a run's staging folder beside parts and records: its plan, and signs of workers.

The plan travels by this file and not inside the job: the job is as small for a million splits as
for one, and whoever reads the folder at night sees what was to be done.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict

import pyarrow as pa

from glossator.pipeline.plan import Plan, Source, Split, open_store
from glossator.pipeline.write import file_sizes, finished, put_bytes

PLAN = "_plan.json"
WORKERS = "_workers"
"""The folder in which each process that labels leaves a file when it is ready to."""


def save_plan(plan: Plan, staging: str) -> None:
    """Write the plan of a run; the same plan gives the same bytes."""
    content = {
        "run_id": plan.run_id,
        "text": plan.text,
        "keys": base64.b64encode(plan.keys.serialize()).decode(),
        "sources": [asdict(source) for source in plan.sources],
        "splits": [asdict(split) for split in plan.splits],
    }
    fs, root = open_store(staging)
    put_bytes(fs, f"{root}/{PLAN}", json.dumps(content, ensure_ascii=False, indent=1).encode())


def load_plan(staging: str) -> Plan:
    """The plan of a run; the inverse of `save_plan`."""
    fs, root = open_store(staging)
    content = json.loads(fs.cat_file(f"{root}/{PLAN}"))
    return Plan(
        sources=tuple(Source(**source) for source in content["sources"]),
        splits=tuple(Split(**split) for split in content["splits"]),
        text=content["text"],
        keys=pa.ipc.read_schema(pa.py_buffer(base64.b64decode(content["keys"]))),
        run_id=content["run_id"],
    )


def unfinished(staging: str) -> list[Split]:
    """The splits of the plan that have no record yet, in the plan's order."""
    done = finished(staging)
    return [split for split in load_plan(staging).splits if split.name not in done]


def sign_in(staging: str, details: Mapping[str, object]) -> None:
    """Leave a sign that a worker is ready to label: whoever waits for workers looks for it."""
    host, pid = socket.gethostname(), os.getpid()
    sign = {"host": host, "pid": pid, "ready": time.time(), **details}
    fs, root = open_store(staging)
    # a container that is started again has the same host and number
    name = f"{host}-{pid}-{uuid.uuid4().hex[:8]}.json"
    put_bytes(fs, f"{root}/{WORKERS}/{name}", json.dumps(sign).encode())


def signs(staging: str) -> set[str]:
    """The names of the signs that were left."""
    fs, root = open_store(staging)
    return set(file_sizes(fs, f"{root}/{WORKERS}"))


def first_ready(staging: str, since: float) -> float | None:
    """When the first worker was ready; None if none has been.

    Args:
        staging: the run's folder.
        since: signs of earlier attempts don't count, in seconds since the epoch as the result.
    """
    fs, root = open_store(staging)
    texts = (fs.cat_file(f"{root}/{WORKERS}/{name}") for name in signs(staging))
    ready = [json.loads(text)["ready"] for text in texts]
    return min((moment for moment in ready if moment >= since), default=None)
