"""What stops a job and is not the caller's mistake (that is `UsageError`)."""


class JobError(Exception):
    """The job began and did not end: nothing was published, and a rerun resumes."""


class CorruptSplit(Exception):  # noqa: N818 - caught and turned into a reject, not only a failure
    """The store gave every byte of these rows, and the bytes are not Parquet."""

    def __init__(self, file: str, start: int, stop: int, detail: str):
        # all of them go to `args`: an exception is pickled on its way back from a worker
        super().__init__(file, start, stop, detail)
        self.file = file
        self.start = start
        self.stop = stop
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.file}: rows {self.start} to {self.stop} cannot be decoded: {self.detail}"


class SourceChangedError(JobError):
    """An input is no longer the file that was planned; a new run plans it as it is now."""


class ReconcileError(JobError):
    """The rows that were written do not account for the rows that were planned."""
