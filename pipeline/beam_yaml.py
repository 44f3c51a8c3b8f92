"""`LabelComments` for Beam YAML, whose transforms give their outputs by name."""

# Beam reads these annotations as types, and of `X | None` it makes Any

from collections.abc import Mapping
from typing import Any

import apache_beam as beam

from glossator.model.bundle import DEFAULT
from glossator.model.errors import UsageError
from glossator.pipeline import compose


class LabelComments(beam.PTransform):
    """Labels rows that have a column of text.

    The outputs are called `labelled` and `rejected`, and both must be named where they are used:
    `input: LabelComments.labelled`. With `error_handling` the second is called as it says, the
    transform's own name stands for the first, and Beam insists on a consumer of the second.
    """

    def __init__(
        self,
        model: str = DEFAULT,
        text: str | None = None,
        tasks: list[str] | None = None,
        top: int = 5,
        error_handling: Mapping[str, Any] | None = None,
    ) -> None:
        """Reads the bundle and pins its digest.

        Args:
            model: A bundle's folder or URI, or `default` for the one inside the package.
            text: The text column, if ambiguous.
            tasks: Names of tasks; by default all that are not sensitive.
            top: Marked words kept of a comment and task.
            error_handling: What to call the output of comments that can't be labelled.
        """
        super().__init__()
        given = dict(error_handling or {"output": "rejected"})
        self._rejected = given.pop("output", None)
        if not isinstance(self._rejected, str) or any(not k.startswith("__") for k in given):
            raise UsageError(
                f"error_handling is {dict(error_handling or {})}: write error_handling: "
                "{output: NAME}, and nothing else"
            )
        self._transform = compose.LabelComments(model, text, tasks, top)

    def expand(self, comments: beam.PCollection) -> dict[str, beam.PCollection]:
        """The outputs by name."""
        result = comments | self._transform
        return {"labelled": result.labelled, self._rejected: result.rejected}
