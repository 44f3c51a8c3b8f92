"""What is asked of Docker and of Google's services to build the template and to launch it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from glossator.deploy.dataflow.template import gs_uri
from glossator.model.errors import UsageError
from glossator.model.store import open_store, put_bytes
from glossator.pipeline.errors import JobError


def docker_commands(image: str, context: Path) -> list[list[str]]:
    """Build the image from a checkout and push it to its registry.

    Raises:
        UsageError: `context` is not a checkout.
    """
    file = context / "deploy" / "Dockerfile"
    if not file.exists():
        raise UsageError(f"--context {context}: {file} is not there: name a checkout of Glossator")
    build = ["docker", "build", "--platform=linux/amd64", "--target=dataflow"]
    return [
        [*build, f"--file={file}", f"--tag={image}", str(context)],
        ["docker", "push", image],
    ]


def run_command(command: list[str]) -> None:
    """Run a command and show what it says.

    Raises:
        JobError: it is not there, or it failed.
    """
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError as error:
        raise JobError(f"{command[0]} is not installed here: install it and run again") from error
    except subprocess.CalledProcessError as error:
        what = " ".join(command[:2])
        raise JobError(f"{what} failed with exit code {error.returncode}; see above") from error


def write_spec(spec: dict[str, Any], uri: str) -> None:
    """Put a container spec where a launch finds it."""
    fs, path = open_store(gs_uri("--template", uri))
    put_bytes(fs, path, json.dumps(spec, indent=1).encode())


def job_name(output: str) -> str:
    """Of a job that publishes in this folder: Dataflow has one active job of a name at a time."""
    return f"glossator-{hashlib.sha256(output.rstrip('/').encode()).hexdigest()[:12]}"


def launch_request(
    template: str, name: str, parameters: dict[str, str], environment: dict[str, Any]
) -> dict[str, Any]:
    """The body of a request to `projects.locations.flexTemplates.launch`."""
    launch = {
        "jobName": name,
        "containerSpecGcsPath": gs_uri("--template", template),
        "parameters": parameters,
        "environment": environment,
    }
    return {"launchParameter": launch}


def launch(project: str, region: str, body: dict[str, Any], client: Any = None) -> str:
    """Launch the template, and give the job's id.

    Args:
        project: that pays for it.
        region: of the job.
        body: the request's, from `launch_request`.
        client: Google's `FlexTemplatesServiceClient`; by default with the credentials found here.

    Raises:
        UsageError: the extra `gcp` is not installed, or the service refuses the request.
        JobError: the service does not answer.
    """
    try:
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import dataflow_v1beta3 as dataflow
    except ImportError as error:
        raise UsageError("to launch a template, install glossator[gcp]") from error
    request = dataflow.LaunchFlexTemplateRequest.from_json(
        json.dumps({"projectId": project, "location": region, **body})
    )
    try:
        client = client or dataflow.FlexTemplatesServiceClient()
        return str(client.launch_flex_template(request).job.id)
    except GoogleAuthError as error:
        raise UsageError(f"{error}: run gcloud auth application-default login") from error
    except exceptions.ClientError as error:
        raise UsageError(f"Dataflow refuses the launch: {error.message}") from error
    except exceptions.GoogleAPICallError as error:
        raise JobError(f"Dataflow did not launch the template: {error.message}") from error
