"""How fast each engine labels the same rows, beside the local default in the same run.

    python tests/benchmarks/engines.py --input comments.parquet \
        --prism PRISM --flink-jar JAR --flink-master localhost:8081

Rates count from when the first worker was ready until publishing, as the manifest's
`labelling_seconds` has it: what it takes an engine to start is told apart. All engines must leave
the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--workers", type=int, default=2, help="threads, and Flink's parallelism")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--prism", help="the Prism runner's program")
    parser.add_argument("--flink-jar", help="Beam's job server for Flink")
    parser.add_argument("--flink-master", help="a cluster; its pool at --flink-pool")
    parser.add_argument("--flink-conf-dir", help="its configuration, if it asks for a key")
    parser.add_argument("--flink-pool", default="localhost:50000")
    given = parser.parse_args()
    engines = {"local": [f"--workers={given.workers}"]}
    if given.prism:
        engines["prism"] = ["--runner=PrismRunner", f"--prism_location={given.prism}"]
    flink = ["--runner=FlinkRunner", f"--parallelism={given.workers}"]
    flink.append(f"--flink_job_server_jar={given.flink_jar}")
    if given.flink_jar:
        engines["flink embedded"] = flink
    if given.flink_jar and given.flink_master:
        master = [
            f"--flink_master={given.flink_master}",
            f"--environment_config={given.flink_pool}",
        ]
        if given.flink_conf_dir:
            master.append(f"--flink_conf_dir={given.flink_conf_dir}")
        engines["flink cluster"] = flink + master
    print(f"{platform.processor() or platform.machine()}, {given.workers} workers, {_model()}")
    rates: dict[str, list[float]] = {name: [] for name in engines}
    digests = set()
    for _ in range(given.rounds):
        for name, flags in engines.items():
            rate, digest = _label(name, given.input, given.model, flags)
            rates[name].append(rate)
            digests.add(digest)
    if len(digests) != 1:
        sys.exit("the engines did not leave the same bytes")
    local = statistics.median(rates["local"])
    for name, found in rates.items():
        print(f"{name}: {statistics.median(found) / local:.2f} times local, the same bytes")


def _label(name: str, source: str, model: str, flags: list[str]) -> tuple[float, str]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "glossator.pipeline", "--json"]
        command += [f"--input={source}", f"--model={model}", f"--output={folder}/out", *flags]
        started = time.monotonic()
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        if run.returncode:
            sys.exit(f"{name}: {run.stderr}")
        parts = sorted(Path(folder, "out").rglob("part-*"))
        digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    account = json.loads(run.stdout)
    rows, busy = account["totals"]["rows_read"], account["timings"]["labelling_seconds"]
    print(
        f"{name}: {rows:,} rows, {rows / busy:,.0f} rows/s over {busy:.1f} s, "
        f"{seconds:.1f} s with start and end, "
        f"recurrence ms {account['metrics']['distributions']['recurrence_ms']['sum']:,}",
        flush=True,
    )
    return rows / busy, digest


def _model() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
