"""What we know of each engine: the defaults that our job wants, and where one looks into it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from glossator.model.errors import UsageError
from glossator.pipeline.flink import EMBEDDED, Cluster
from glossator.pipeline.peers import is_loopback

POOL = "localhost:50000"
"""Where the worker pool stands beside each TaskManager, if nothing else is said."""

MACHINE_TYPE = "n2d-standard-4"
"""Of Dataflow's workers; docs/dataflow.md says why."""

FLINK_OPTIONS = (
    "execution_mode_for_batch",
    "faster_copy",
    "max_bundle_size",
    "max_bundle_time_mills",
    "object_reuse",
    "operator_chaining",
    "re_iterable_group_by_key_result",
)
"""Options of Flink's job server that matter to a batch job. It is Java: Beam's Python learns of
them only when the job server runs.

https://beam.apache.org/documentation/runners/flink/#pipeline-options-for-the-flink-runner
"""

_HERE = ("DirectRunner", "FnApiRunner", "BundleBasedDirectRunner")
_IN_MEMORY = "in_memory"
"""Beam's word for running all in this process, without sockets."""


class FlinkClientOptions(PipelineOptions):
    """An option of Flink's job server that our own client wants to know, too."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--flink_conf_dir", help="Flink's configuration, for a cluster that asks for one."
        )


@dataclass(frozen=True)
class Runner:
    """An engine as one job uses it, read off the options before Beam changes them."""

    name: str
    job_name: str
    waits: bool
    """Whether the client waits for the job's end."""
    template: bool = False
    """Whether the job is only written down, for somebody else to submit."""
    remote: bool = False
    """Whether its workers are surely on other machines."""
    cluster: Cluster | None = None
    """A Flink cluster with an address."""
    start_minutes: float = 10.0
    """So long its workers may take to get ready, if nothing else is said; 0 for ever."""
    own_servers: bool = True
    """Whether all that talks to Beam's servers in this process runs here, as this user."""
    threads: int = 1
    """How many splits each process that labels has under way at once."""
    logs: str = "look at the engine's own logs"
    """Where to look when it makes no progress: the remedy of an error."""

    @property
    def in_process(self) -> bool:
        """Whether all is done by this process before the runner's `run` returns."""
        return self.name in _HERE


def cores() -> int:
    """The cores that this process may use, which in a container are not all there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def runner_of(options: PipelineOptions, run_id: str, workers: int) -> Runner:
    """The engine that Beam's options name.

    The job is named after its run, by which one that a client left behind is known again.

    Args:
        options: Beam's.
        run_id: of the run.
        workers: threads of what runs on this machine.
    """
    cloud = options.view_as(GoogleCloudOptions)
    cloud.job_name = cloud.job_name or f"glossator-{run_id}"
    given = options.get_all_options()
    name = _name(given["runner"]) or "DirectRunner"
    template = bool(given["template_location"])
    own = _has_workers_here(given)
    waits = not (given["no_wait_until_finish"] or template)
    if name == "FlinkRunner" and given["flink_master"] not in EMBEDDED:
        cluster = Cluster(given["flink_master"], given["flink_conf_dir"])
        logs = (
            f"look at the log of the worker pool at {given['environment_config']}, beside each"
            " TaskManager (is it up, has its python glossator?), and at the TaskManagers' at"
            f" {cluster.url}/#/task-manager"
        )
        return Runner(name, cloud.job_name, waits, cluster=cluster, own_servers=own, logs=logs)
    if name == "DataflowRunner":
        return Runner(
            name,
            cloud.job_name,
            waits,
            template=template,
            remote=True,
            # machines start and fetch the image; with FlexRS they may wait for hours first
            start_minutes=0.0 if given["flexrs_goal"] == "COST_OPTIMIZED" else 30.0,
            logs=f"look at the job's worker logs in the console, project {given['project']}",
        )
    if name in _HERE:
        # Beam's other modes have workers of their own
        ours = name == "FnApiRunner" and given["direct_running_mode"] == _IN_MEMORY
        return Runner(
            name,
            cloud.job_name,
            waits=True,
            own_servers=True,
            threads=workers if ours and given["direct_num_workers"] == 1 else 1,
            logs="is a store that it reads or writes not answering?",
        )
    return Runner(name, cloud.job_name, waits, own_servers=own)


def _has_workers_here(given: Mapping[str, Any]) -> bool:
    """Whether workers are processes of this user on this machine, by Beam's options."""
    if given["environment_type"] == "EXTERNAL":
        host = str(given["environment_config"]).rpartition(":")[0]
        return is_loopback(host)
    return given["environment_type"] in ("LOOPBACK", "PROCESS")


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
        return _here(given, workers)
    if runner == "FlinkRunner":
        return _flink(given, workers)
    if runner == "DataflowRunner":
        return _dataflow(given)
    if runner == "PrismRunner" or (runner == "PortableRunner" and given.job_endpoint == "embed"):
        return [] if given.environment_type else ["--environment_type=LOOPBACK"]
    return []


def _here(given: argparse.Namespace, workers: int) -> list[str]:
    """One process, all in memory: no socket listens, the model is there once, none dies alone.

    `DirectRunner` would be Prism where Prism can be had and something else elsewhere, each with
    errors and names of counters of its own: here it means the same everywhere. Beam's own workers
    in this process would talk to it through ports that are open to every network; those who ask
    for them get them.
    """
    if given.direct_running_mode == _IN_MEMORY:
        return ["--runner=FnApiRunner"]
    return ["--runner=FnApiRunner", f"--direct_num_workers={workers}"]


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
        slots = workers if embedded else _cluster(given).slots()
        options.append(f"--parallelism={max(1, slots)}")
    if not embedded and not given.flink_job_server_jar:  # Beam would take that of its newest Flink
        options.append(f"--flink_version={_cluster(given).version()}")
    # what a worker needs lies in its image: nothing is staged, so no folder need be shared
    options.append("--experiments=disable_logging_submission_environment")
    return options


def _cluster(given: argparse.Namespace) -> Cluster:
    return Cluster(given.flink_master, given.flink_conf_dir)


def _dataflow(given: argparse.Namespace) -> list[str]:
    for option in ("project", "region", "temp_location", "sdk_container_image"):
        if not getattr(given, option):
            raise UsageError(f"--runner=DataflowRunner needs --{option}; see docs/dataflow.md")
    options = []
    if given.machine_type is None:
        options.append(f"--machine_type={MACHINE_TYPE}")
    if given.number_of_worker_harness_threads is None:
        # Beam starts a process for each core: more threads in it would only be in each other's way
        options.append("--number_of_worker_harness_threads=1")
    return options
