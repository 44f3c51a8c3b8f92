"""Label comments for several tasks at once, with attention: the names for use from Python.

::

    from glossator import Labeller, label_table, load

    labelled, rejected = label_table(Labeller(load("my-bundle")), table)

Each name is imported when it is first used, so `import glossator` is quick, and Beam is loaded
for `LabelComments` alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glossator.model.bundle import Bundle, load
    from glossator.model.errors import GlossatorError, UsageError
    from glossator.model.labeller import Labeller
    from glossator.pipeline.compose import LabelComments
    from glossator.pipeline.errors import JobError, RefusedError
    from glossator.pipeline.outputs.publish import current_folder
    from glossator.pipeline.tables import Outputs, label_table

    __version__: str

__all__ = [
    "Bundle",
    "GlossatorError",
    "JobError",
    "LabelComments",
    "Labeller",
    "Outputs",
    "RefusedError",
    "UsageError",
    "__version__",
    "current_folder",
    "label_table",
    "load",
]

_HOMES = {
    "Bundle": "model.bundle",
    "GlossatorError": "model.errors",
    "JobError": "pipeline.errors",
    "LabelComments": "pipeline.compose",
    "Labeller": "model.labeller",
    "Outputs": "pipeline.tables",
    "RefusedError": "pipeline.errors",
    "UsageError": "model.errors",
    "current_folder": "pipeline.outputs.publish",
    "label_table": "pipeline.tables",
    "load": "model.bundle",
}
"""The module of each name, below this package."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("glossator")
    elif name in _HOMES:
        value = getattr(import_module(f"glossator.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'glossator' has no attribute {name!r}")
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
