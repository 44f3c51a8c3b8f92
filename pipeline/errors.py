"""What stops a job and is not simply an invalid request (that is `UsageError`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glossator.model.errors import GlossatorError, UsageError

if TYPE_CHECKING:
    from glossator.pipeline.inputs.ranges import Range


class NotYetError(UsageError):
    """An input names nothing: it may be there later, and nothing was begun.

    One line. The command line exits with 4, so that a scheduler can tell a day that is late from a
    request that would fail the same way again.
    """


class JobError(GlossatorError):
    """The job began and did not end: nothing was published, and a rerun resumes."""


class StoreError(JobError):
    """A store did not do what was asked of it; says which of input, model and output it holds."""


class RefusedError(JobError):
    """A check refused to publish a run that is whole: what was published before is untouched.

    One line. The command line exits with 3; staging is kept, so that a rerun which allows what
    was found publishes at once.
    """

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        """States the refusal.

        Args:
            message: the figures, where to look, and the remedy.
            parameter: the Python name of the option that would allow it, e.g. `max_unreadable`.
        """
        super().__init__(message)
        self.parameter = parameter
        self.checks: tuple[Any, ...] = ()
        """All checks of the run, as the manifest would have them, where they are known."""


class FencedError(JobError):
    """Another run has taken the output over: this one may not publish in it any more."""


class UnsettledError(JobError):
    """A run is published, but something that is of no more use could not be removed."""


class CorruptRange(GlossatorError):  # noqa: N818 - caught and turned into a reject, not only a failure
    """The store gave every byte of these rows, and they can't be decoded."""

    def __init__(self, range_: Range, reason: str, detail: str):
        # all of them go to `args`: an exception is pickled on its way back from a worker
        super().__init__(range_, reason, detail)
        self.range_ = range_
        self.reason = reason
        """`corrupt`: the bytes are not Parquet; `too large`: they take more memory than allowed."""
        self.detail = detail

    def __str__(self) -> str:
        rows = f"rows {self.range_.start} to {self.range_.stop}"
        return f"{self.range_.source}: {rows} cannot be decoded: {self.detail}"


class SourceChangedError(JobError):
    """An input is no longer the file that was planned; a new run plans it as it is now."""


class ReconcileError(JobError):
    """The rows that were written do not account for the rows that were planned."""
