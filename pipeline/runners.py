"""What we know of each engine: the defaults that our job wants, and where one looks into it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from apache_beam.options.pipeline_options import PipelineOptions

from glossator.model.errors import UsageError
from glossator.pipeline.flink import EMBEDDED, Cluster

POOL = "localhost:50000"
"""Where the worker pool stands beside each TaskManager, if nothing else is said."""

FLINK_OPTIONS = (
    "execution_mode_for_batch",
    "execution_retry_delay",
    "faster_copy",
    "flink_conf_dir",
    "max_bundle_size",
    "max_bundle_time_mills",
    "number_of_execution_retries",
    "object_reuse",
    "operator_chaining",
    "re_iterable_group_by_key_result",
)
"""Options of Flink's job server that matter to a batch job. It is Java: Beam's Python learns of
them only when the job server runs.

https://beam.apache.org/documentation/runners/flink/#pipeline-options-for-the-flink-runner
"""

_HERE = ("DirectRunner", "FnApiRunner", "BundleBasedDirectRunner")


@dataclass(frozen=True)
class Runner:
    """An engine as one job uses it, read off the options before Beam changes them."""

    name: str
    job_name: str
    cluster: Cluster | None
    """A Flink cluster with an address."""
    logs: str
    """Where to look when nothing moves: the remedy of an error."""

    @property
    def in_process(self) -> bool:
        """Whether all is done by this process before the runner's `run` returns."""
        return self.name in _HERE


def runner_of(options: PipelineOptions) -> Runner:
    """The engine that Beam's options name."""
    given = options.get_all_options()
    name = _name(given["runner"]) or "DirectRunner"
    job_name = given["job_name"] or "job"
    logs = "look at the engine's own logs"
    cluster = None
    if name == "FlinkRunner" and given["flink_master"] not in EMBEDDED:
        cluster = Cluster(given["flink_master"])
        pool = given["environment_config"]
        logs = (
            f"look at the worker pool's log (--environment_config {pool}, beside each TaskManager:"
            " it must run, and its python must have glossator), and at the TaskManagers' at"
            f" {cluster.url}/#/task-manager"
        )
    elif name == "DataflowRunner":
        logs = f"look at the job's worker logs in the console, project {given['project']}"
    return Runner(name, job_name, cluster, logs)


def _name(runner: str | None) -> str | None:
    """A runner's name without its module."""
    return runner.rsplit(".", 1)[-1] if runner else None


def defaults(given: argparse.Namespace, workers: int) -> list[str]:
    """The options that our job wants of an engine, where the caller has not said otherwise.

    Args:
        given: Beam's options as they were parsed, with Beam's own defaults.
        workers: threads of what runs on this machine.

    Raises:
        UsageError: the engine can't be used without an option that is missing.
        JobError: the engine is not there.
    """
    runner = _name(given.runner)
    if runner in (None, "DirectRunner"):
        return _here(workers)
    if runner == "FlinkRunner":
        return _flink(given, workers)
    if runner == "DataflowRunner":
        return _dataflow(given)
    if runner == "PortableRunner" and given.job_endpoint == "embed":
        return [] if given.environment_type else ["--environment_type=LOOPBACK"]
    return []


def _here(workers: int) -> list[str]:
    """One process, a thread a worker: the model is in memory once, and no process dies alone.

    `DirectRunner` would be Prism where Prism can be had and something else elsewhere, each with
    errors and names of counters of its own: here it means the same everywhere.
    """
    return [
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_threading",
        f"--direct_num_workers={workers}",
    ]


def _flink(given: argparse.Namespace, workers: int) -> list[str]:
    embedded = given.flink_master in EMBEDDED
    options = []
    if given.environment_type is None:
        if embedded:
            options.append("--environment_type=LOOPBACK")
        else:
            options.append("--environment_type=EXTERNAL")
            if given.environment_config is None:
                options.append(f"--environment_config={POOL}")
    if given.flink_master == "[auto]":  # it would look for a cluster in the environment
        options.append("--flink_master=[local]")
    if given.parallelism < 1:
        slots = workers if embedded else Cluster(given.flink_master).slots()
        options.append(f"--parallelism={max(1, slots)}")
    # what a worker needs lies in its image: nothing is staged, so no folder need be shared
    options.append("--experiments=disable_logging_submission_environment")
    return options


def _dataflow(given: argparse.Namespace) -> list[str]:
    for option in ("project", "region", "temp_location", "sdk_container_image"):
        if not getattr(given, option):
            raise UsageError(f"--runner=DataflowRunner needs --{option}; see docs/dataflow.md")
    options = []
    if given.number_of_worker_harness_threads is None:
        options.append("--number_of_worker_harness_threads=1")
    return options
