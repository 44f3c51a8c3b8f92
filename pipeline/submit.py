"""A pipeline is given to its engine and waited for: not for ever, and not after we are stopped."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.runners.runner import PipelineResult, PipelineState

from glossator.pipeline.errors import JobError
from glossator.pipeline.flink import Cluster, Job
from glossator.pipeline.loopback import own_servers_only
from glossator.pipeline.progress import Progress, Reporter
from glossator.pipeline.runners import Runner
from glossator.pipeline.running import GIVEN_UP
from glossator.pipeline.worker_pool import guarded_loopback

_POLL_SECS = 0.5
_CANCEL_SECS = 30.0
"""So long the engine may take to let go of a job that we cancel."""
_END_SECS = 5.0
"""So long a process that Beam started may take to end when asked to."""


class Submission:
    """One job of ours on an engine, from before it is submitted until it has ended."""

    def __init__(self, runner: Runner, attempt: str = "") -> None:
        """Submits nothing yet.

        Args:
            runner: the engine.
            attempt: what the threads of this process that label for it look at; see `GivenUp`.
        """
        self._runner = runner
        self._attempt = attempt
        self._result: PipelineResult | None = None

    def run(self, root: beam.Pipeline, *, check: Callable[[], None]) -> PipelineResult:
        """Submits the pipeline and, if the runner waits, waits until it has ended.

        Args:
            root: the pipeline.
            check: called twice a second; what it raises ends the waiting, and the job.

        Raises:
            Exception: whatever Beam raises for a job that failed.
            JobError: it ended otherwise than done.
        """
        servers = own_servers_only() if self._runner.own_servers else contextlib.nullcontext()
        with servers, WAITED_FOR.holding(self, beside=not self._runner.in_process):
            try:
                state = self._run(root, check)
                if self._runner.waits and state not in (PipelineState.DONE, None):
                    raise JobError(f"the job ended as {state}")
                return self._result
            except BaseException:
                self.cancel()
                raise

    def _run(self, root: beam.Pipeline, check: Callable[[], None]) -> Any:
        if self._runner.in_process:  # its `run` is all of the work
            return _waiting(lambda: self._submit(root).wait_until_finish(), check)
        interrupted = signal.getsignal(signal.SIGINT)
        with guarded_loopback(root.options):
            result = self._submit(root)
            if threading.current_thread() is threading.main_thread():
                # Beam's job servers put themselves before it: they would end before their job
                signal.signal(signal.SIGINT, interrupted)
            return _waiting(result.wait_until_finish, check) if self._runner.waits else None

    def _submit(self, root: beam.Pipeline) -> PipelineResult:
        self._result = result = root.run()
        return result

    def cancel(self, *, leaving: bool = False) -> None:
        """Ends the job on its engine, as far as that can be done in a minute.

        Args:
            leaving: this process is about to end, and Beam's job servers may go first: one of
                them may be in the midst of submitting.
        """
        if self._runner.in_process:
            GIVEN_UP.add(self._attempt)
            return
        _bounded(self._cancel_result)
        if leaving:
            stop_runner_processes()
        _bounded(self._cancel_on_cluster)

    def _cancel_result(self) -> None:
        if self._result is not None and not PipelineState.is_terminal(self._result.state):
            self._result.cancel()

    def _cancel_on_cluster(self) -> None:
        """By the cluster's own interface: the job server may not have passed on our word."""
        if self._runner.cluster:
            cancel_jobs(self._runner.cluster, self._runner.job_name)


def _waiting(work: Callable[[], Any], check: Callable[[], None]) -> Any:
    """What `work` gives, unless `check` raises first.

    Beam's own waiting can't be left, nor can a thread that hangs be ended: it is done by a thread
    that need not be waited for, and signals reach this one at once.
    """
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # raised again where it can be seen
            failure.append(error)

    waiting = threading.Thread(target=run, name="job", daemon=True)
    waiting.start()
    while waiting.is_alive():
        waiting.join(_POLL_SECS)
        check()
    if failure:
        raise failure[0]
    if not outcome:  # nothing was left even to note an error with
        raise JobError("the thread that ran the job died")
    return outcome[0]


class WaitedFor:
    """The job that this process waits for, for handlers of signals, which are given nothing."""

    def __init__(self) -> None:
        self._submission: Submission | None = None
        self.beside = False
        """Whether an engine was ever started beside this process."""

    @contextlib.contextmanager
    def holding(self, submission: Submission, *, beside: bool) -> Iterator[None]:
        """Is the job that is waited for while the context is open."""
        self._submission, self.beside = submission, self.beside or beside
        try:
            yield
        finally:
            self._submission = None

    def cancel(self) -> None:
        """Ends the job, if there is one."""
        if self._submission is not None:
            self._submission.cancel(leaving=True)


WAITED_FOR = WaitedFor()
"""That of this process."""


def cancel_current() -> None:
    """Ends the job that is being waited for, if there is one; for handlers of signals."""
    WAITED_FOR.cancel()


def stop_runner_processes() -> None:
    """Stops what Beam started beside this process (job servers), as the end of Python would."""
    if not WAITED_FOR.beside:
        return
    # what loses its connection from here on has nothing to say
    logging.disable()
    threading.excepthook = lambda _: None
    _bounded(atexit._run_exitfuncs)
    _bounded(_end_children)  # Beam does not know yet of one that just started


def _end_children() -> None:
    """Linux only: elsewhere it finds none."""
    deadline = time.monotonic() + _END_SECS
    asked: set[int] = set()
    while children := _children():
        late = time.monotonic() > deadline
        for pid in children if late else children - asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked |= children
        time.sleep(_POLL_SECS / 10)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> set[int]:
    found: set[int] = set()
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that ended meanwhile
            found |= set(map(int, children.read_text().split()))
    return found


def cancel_jobs(cluster: Cluster, name: str) -> None:
    """Cancels all jobs of that name, and waits half a minute for their end.

    Raises:
        JobError: the cluster does not answer, or the jobs do not end.
    """
    deadline = time.monotonic() + _CANCEL_SECS
    while alive := _alive(cluster, name):
        if time.monotonic() > deadline:
            raise JobError(f"job {alive[0].id} on {cluster.url} does not end: cancel it there")
        for job in alive:
            if job.state != "CANCELLING":
                cluster.cancel(job)
        time.sleep(_POLL_SECS)


def wait_for_earlier(runner: Runner, check: Callable[[], None], report: Reporter) -> None:
    """Wait for a job of the same name: a client that was killed leaves its own on the cluster.

    One that makes no progress any more (`check` raises) is cancelled.
    """
    if runner.cluster is None:
        return
    reported = False
    while alive := _alive(runner.cluster, runner.job_name):
        if not reported:
            report(f"job {alive[0].id} of an earlier client is labelling this: waiting for it")
            reported = True
        try:
            check()
        except JobError:
            report(f"job {alive[0].id} is making no progress: cancelling it")
            cancel_jobs(runner.cluster, runner.job_name)
        time.sleep(_POLL_SECS)


def _alive(cluster: Cluster, name: str) -> list[Job]:
    return [job for job in cluster.jobs(name) if not job.ended]


def _bounded(action: Callable[[], None]) -> None:
    def quietly() -> None:
        with contextlib.suppress(Exception):
            action()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    thread.join(_CANCEL_SECS)


@dataclass(frozen=True)
class Deadlines:
    """Ends the waiting for a job that is making no progress."""

    runner: Runner
    progress: Progress
    start_minutes: float
    """0 to wait for ever for the first worker."""
    stall_minutes: float
    """0 to wait for ever for the next row."""

    def check_start(self) -> None:
        """To be called now and then.

        Raises:
            JobError: no worker has got ready for too long.
        """
        silent = self.progress.silent_seconds / 60
        if not self.progress.workers and 0 < self.start_minutes < silent:
            raise JobError(
                f"no worker was ready to label within {self.start_minutes:g} minutes"
                f" (start_minutes){self._failure()}, so the job was cancelled; {self.runner.logs}"
            )

    def check_stall(self) -> None:
        """To be called now and then.

        Raises:
            JobError: nothing was labelled for too long.
        """
        if 0 < self.stall_minutes < self.progress.silent_seconds / 60:
            raise JobError(
                f"no row was labelled for {self.stall_minutes:g} minutes (stall_minutes)"
                f"{self._failure()}, so the job was cancelled; {self.runner.logs}"
            )

    def check(self) -> None:
        """Both of them."""
        self.check_start()
        self.check_stall()

    def _failure(self) -> str:
        """What the cluster itself says is wrong."""
        if self.runner.cluster:
            with contextlib.suppress(JobError):
                for job in _alive(self.runner.cluster, self.runner.job_name):
                    if said := self.runner.cluster.failure(job):
                        return f" (Flink: {said})"
        return ""
