"""Kills processes of a Flink cluster while it labels, and holds the job to its promises.

    python -m glossator.deploy.flink start --slots 2
    python tests/acceptance/flink_kills.py --input comments.parquet --key id \
        --flink-jar JAR --kills 10

Each time one process dies at a random moment of the labelling: a TaskManager, or the worker pool.
It is started again after some seconds, as whatever looks after a cluster would. The job recovers,
or fails in one line and is run again, which resumes it. Each time the bytes must be those of an
undisturbed local run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from accept import digests
from outputs import current

CLUSTER = [sys.executable, "-m", "glossator.deploy.flink"]
AWAY_SECS = 5.0
"""So long what was killed stays away."""
PATIENCE_SECS = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--key", required=True, help="a column of unique values")
    parser.add_argument("--flink-jar", required=True, help="Beam's job server for Flink")
    parser.add_argument("--kills", type=int, default=10, help="of each of the roles")
    parser.add_argument("--roles", default="taskmanager,worker-pool")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    cluster = json.loads(subprocess.check_output([*CLUSTER, "status", "--json"]))
    job = [sys.executable, "-m", "glossator.pipeline", "--input", given.input, "--key", given.key]
    flink = ["--runner=FlinkRunner", f"--flink_job_server_jar={given.flink_jar}", "--parallelism=2"]
    flink += [f"--flink_master={cluster['master']}", f"--environment_config={cluster['pool']}"]
    flink.append(f"--flink_conf_dir={cluster['conf']}")
    flink += ["--start-minutes=3", "--stall-minutes=3"]
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder, "undisturbed")
        subprocess.run([*job, "--output", undisturbed], check=True, capture_output=True)
        expected = digests(str(undisturbed))
        rows = json.loads((current(undisturbed) / "_manifest.json").read_text())["totals"][
            "rows_read"
        ]
        print(f"{rows:,} rows, undisturbed in {len(expected)} files", flush=True)
        for role in given.roles.split(","):
            for i in range(given.kills):
                out = Path(folder, f"{role}-{i}")
                killed = f"{role}-{i % cluster['task_managers'] + 1}"
                if role == "worker-pool":
                    killed = role
                one(killed, [*job, "--output", str(out), *flink], out, expected, rows, chance)
                shutil.rmtree(out)


def one(
    role: str,
    command: list[str],
    out: Path,
    expected: dict[str, str],
    rows: int,
    chance: random.Random,
) -> None:
    """One job, disturbed once."""
    started = time.monotonic()
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(client.stderr or ()), daemon=True)
    reader.start()
    wait_for(lambda: list(out.glob("_runs/*/_workers/*")), client)
    time.sleep(chance.uniform(0, rows / 8_000))  # about as long as labelling takes
    late = client.poll() is not None
    done = len(list(out.glob("_runs/*/_records/*")))
    status = json.loads(
        subprocess.run([*CLUSTER, "status", "--json"], stdout=subprocess.PIPE).stdout
    )
    (pid,) = [p["pid"] for p in status["processes"] if p["role"] == role]
    os.kill(pid, signal.SIGKILL)
    time.sleep(AWAY_SECS)
    subprocess.run([*CLUSTER, "start"], check=True, capture_output=True)
    code = client.wait(PATIENCE_SECS)
    reader.join(10)
    how = "recovered"
    if late:
        how = "had ended"
    elif code:
        reasons = [line for line in said if line.startswith("glossator: ")]
        if code != 1 or len(reasons) != 1 or "run it again to resume" not in reasons[0]:
            sys.exit(f"{role}: ended with {code}:\n{''.join(said)}")
        again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECS)
        if again.returncode:
            sys.exit(f"{role}: the rerun ended with {again.returncode}:\n{again.stderr}")
        how = f"failed ({reasons[0].strip()[:100]}...), resumed"
    manifest: dict[str, Any] = json.loads((current(out) / "_manifest.json").read_text())
    totals = manifest["totals"]
    if totals["rows_labelled"] + totals["rows_rejected"] != rows or digests(str(out)) != expected:
        sys.exit(f"{role}: the output is not that of an undisturbed run")
    seconds = time.monotonic() - started
    print(f"{role} killed after {done} splits: {how}; same bytes, {seconds:.0f} s", flush=True)


def wait_for(condition: Any, client: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECS
    while not condition() and client.poll() is None:
        if time.monotonic() > deadline:
            sys.exit("no worker came")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
