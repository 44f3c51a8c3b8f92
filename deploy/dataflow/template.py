"""The flex template: flags of `glossator label` as parameters, and what a launch starts from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from glossator.model.errors import UsageError
from glossator.pipeline.cli import label
from glossator.pipeline.engines.runners import MACHINE_TYPE

LEFT_OUT = {
    "workers": "threads of a local run",
    "strict": "a parameter has a value",
    "table_files": "a parameter has a value",
    "reuse": "a parameter has a value",
    "first_date": "a job labels one date",
    "last_date": "a job labels one date",
    "table": "its libraries are not in the image",
    "show": "nobody reads the launcher's output",
    "as_json": "nobody reads the launcher's output",
    "start_minutes": "the launcher does not wait",
    "metrics_file": "nobody reads the launcher's files",
    "metrics_push": "the launcher does not wait",
    "lineage": "the launcher does not wait",
    "wait_minutes": "the launcher does not wait",
    "stall_minutes": "the launcher does not wait",
}
"""Flags of `glossator label` that are no parameters, and why."""


@dataclass(frozen=True)
class _Form:
    """What the command line leaves open and a template says."""

    label: str
    regex: str
    """A POSIX extended regular expression that the whole value matches: no classes such as \\d, and
    no backslash in brackets, where POSIX takes it for itself."""
    takes: str
    """The same in words."""
    kind: str = "TEXT"
    """One of Google's `ParameterType`."""


_BUCKET = "gs://[a-z0-9][-_.a-z0-9]+[a-z0-9]"
_DATED = rf"{_BUCKET}(/([^, {{}}]|\{{date\}})*)?"

_FORMS = {
    "inputs": _Form(
        "Input files",
        rf"^{_DATED}(,{_DATED})*$",
        "gs:// URIs, with commas between them and no spaces",
    ),
    "output": _Form("Output folder", rf"^{_DATED}$", "a gs:// URI", "GCS_WRITE_FOLDER"),
    "model": _Form("Model", rf"^(default|{_BUCKET}/[^, {{}}]+)$", "default, or a gs:// URI"),
    "model_digest": _Form("Model digest", "^[0-9a-f]{64}$", "64 hexadecimal digits"),
    "text": _Form("Text column", "^.+$", "its name"),
    "keys": _Form("Key columns", "^[^,]+(,[^,]+)*$", "names, with commas between them"),
    "tasks": _Form(
        "Tasks",
        "^[^, ]+(,[^, ]+)*$",
        "names, with commas between them; all but sensitive ones by default",
    ),
    "date": _Form(
        "Date",
        "^([0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])|today|yesterday)$",
        "YYYY-MM-DD, or today or yesterday in UTC",
    ),
    "max_unreadable": _Form(
        "Unreadable input allowed",
        "^([0-9]{1,12}|[0-9]*[.]?[0-9]+%?)$",
        "a number of files, or a share of the rows, e.g. 0.01 or 1%",
    ),
    "gates": _Form(
        "Limits of the checks", rf"^{_BUCKET}/[^, {{}}]+$", "a gs:// URI", "GCS_READ_FILE"
    ),
    "accept": _Form(
        "Checks to let through",
        "^[a-z_]+([.][^, ]+)?(,[a-z_]+([.][^, ]+)?)*$",
        "names, with commas between them",
    ),
    "keep": _Form(
        "Time that replaced labels are kept", "^[0-9]{1,6}(s|min|h|d)$", "e.g. 90min, 36h or 7d"
    ),
    "top": _Form("Marked words", "^([0-9]|[1-9][0-9]|100)$", "0 to 100", "NUMBER"),
}


@dataclass(frozen=True)
class Parameter:
    """A flag of `glossator label` as the template has it."""

    option: click.Option
    form: _Form

    @property
    def name(self) -> str:
        """As it is given: the flag without its dashes."""
        return self.option.opts[0].removeprefix("--")

    @property
    def repeated(self) -> bool:
        """Whether it holds a list: a flag can be given twice, a parameter can't."""
        return self.option.multiple

    def check(self, value: str) -> None:
        """Refuse what the template would refuse.

        Raises:
            UsageError: the value does not match.
        """
        if not re.fullmatch(self.form.regex, value):
            raise UsageError(
                f"--{self.name} {value}: on Dataflow it is {self.form.takes}"
                f" (must match {self.form.regex})"
            )

    def to_json(self) -> dict[str, Any]:
        """Google's `ParameterMetadata`."""
        said = (self.option.help or "").split(";")[0].rstrip(".")
        default = f" (default {self.option.default})" if self.option.show_default else ""
        return {
            "name": self.name,
            "label": self.form.label,
            "helpText": f"{said}: {self.form.takes}{default}.",
            "isOptional": not self.option.required,
            "regexes": [self.form.regex],
            "paramType": self.form.kind,
        }


PARAMETERS = tuple(
    Parameter(option, _FORMS[option.name])
    for option in label.params
    if isinstance(option, click.Option) and option.name in _FORMS
)


def metadata() -> dict[str, Any]:
    """Google's `TemplateMetadata`."""
    return {
        "name": "glossator",
        "description": label.help.split(";")[0] + "." if label.help else "",
        "streaming": False,
        "parameters": [parameter.to_json() for parameter in PARAMETERS],
    }


def container_spec(image: str, staging: str | None) -> dict[str, Any]:
    """Google's `ContainerSpec`: the file that a template is.

    Args:
        image: of launcher and workers alike, with a tag or digest.
        staging: a `gs://` folder for temporary and staged files; None to name it at each launch.

    Raises:
        UsageError: the image has no tag, or the folder is not on Google Cloud Storage.
    """
    name = image.rsplit("/", 1)[-1]
    if not re.search(r"[:@].", name) or name.endswith(":latest"):
        raise UsageError(
            f"--image {image}: name a tag that stays as it is, e.g. {image.split(':')[0]}:0.1.0,"
            " or launcher and workers may get different images"
        )
    environment = {"sdkContainerImage": image, "machineType": MACHINE_TYPE}
    if staging is not None:
        folder = gs_uri("--staging", staging)
        environment |= {"tempLocation": f"{folder}/temp", "stagingLocation": f"{folder}/staging"}
    return {
        "image": image,
        "metadata": metadata(),
        "sdkInfo": {"language": "PYTHON"},
        "defaultEnvironment": environment,
    }


def gs_uri(flag: str, uri: str) -> str:
    """The URI without a slash at its end.

    Raises:
        UsageError: Dataflow can't use it.
    """
    if not re.fullmatch(r"gs://[a-z0-9][-_.a-z0-9]+[a-z0-9](/[^ ]*)?", uri):
        raise UsageError(f"{flag} {uri} is not on Google Cloud Storage: name gs://BUCKET/PATH")
    return uri.rstrip("/")


def parameters(given: Mapping[str, Any]) -> dict[str, str]:
    """What was given for flags of `glossator label`, as values of the template's parameters.

    Args:
        given: values by the names that click has for them; defaults and None are left out.

    Raises:
        UsageError: the template would refuse a value.
    """
    values = {}
    for parameter in PARAMETERS:
        value = given.get(parameter.option.name or "")
        # a default may stand as it would be typed
        if value in (None, ()) or str(value) == str(parameter.option.default):
            continue
        text = ",".join(value) if parameter.repeated else str(value)
        parameter.check(text)
        values[parameter.name] = text
    return values
