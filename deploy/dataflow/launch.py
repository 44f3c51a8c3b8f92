"""What Dataflow's launcher runs: a template's parameters become flags of `glossator label`.

The launcher starts this file with `--NAME=VALUE` for each parameter, and with Beam's options: among
them `--template_location`, by which Beam writes the job down instead of submitting it. The launcher
hands it to the service afterwards, so this must end without waiting for the job.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from glossator.deploy.dataflow.template import PARAMETERS
from glossator.pipeline.cli import label, main


def arguments(given: Sequence[str]) -> list[str]:
    """The command's arguments: lists become repeated flags, and empty parameters are left out."""
    ours = {f"--{parameter.name}" for parameter in PARAMETERS}
    repeated = {f"--{parameter.name}" for parameter in PARAMETERS if parameter.repeated}
    words = []
    for word in given:
        flag, _, value = word.partition("=")
        if flag in ours and not value:
            continue
        words += [f"{flag}={v}" for v in value.split(",")] if flag in repeated else [word]
    return [*words, "--no_wait_until_finish"]


if __name__ == "__main__":
    main(arguments(sys.argv[1:]), command=label)
