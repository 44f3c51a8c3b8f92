"""Google Cloud Workflows, which launches the Dataflow template, and the Cloud Scheduler before it.

https://cloud.google.com/workflows/docs/reference/syntax
https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from glossator.deploy.dataflow.service import launch_request
from glossator.deploy.dataflow.template import LEFT_OUT, gs_uri, parameters
from glossator.deploy.settings import (
    NOT_YET_CODE,
    RETRY_MINUTES,
    START_WITHIN_SECONDS,
    Nightly,
)
from glossator.model.errors import UsageError
from glossator.pipeline.cli import label

Step: TypeAlias = dict[str, Any]

_DATAFLOW = "https://dataflow.googleapis.com"
_STORAGE = "https://storage.googleapis.com"
_LOOK_SECONDS = 300
"""Between two looks for a day that is late."""
_POLL_SECONDS = 60
"""Between two looks at the job."""
_RETRIED = {"retry": "${http.default_retry}"}
_OAUTH = {"type": "OAuth2"}
_REFUSED = "RefusedError"
"""What stands in a job's messages where a check refused to publish."""


@dataclass(frozen=True)
class Cloud:
    """Where it runs, and as whom."""

    project: str
    region: str
    """Of the workflow, the schedule and the job."""
    scheduler_account: str
    """The service account that Cloud Scheduler starts the workflow as."""
    template: str
    """The flex template's file, a gs:// URI."""


def workflow(nightly: Nightly, cloud: Cloud, environment: Mapping[str, Any]) -> dict[str, Any]:
    """The workflow of one night: looks for the day, launches the job, waits for its end.

    It ends with an error that has the exit code of `glossator label`, as far as Dataflow tells it.

    Args:
        nightly: what and when.
        cloud: where.
        environment: of the launch.

    Raises:
        UsageError: a value can't stand in a workflow, or the schedule could miss or repeat a day.
    """
    nightly.require_one_day(START_WITHIN_SECONDS / 3600)
    values = _parameters(nightly)
    _refuse_expressions([*values.values(), *environment.values()])
    launch = launch_request(cloud.template, "", values, dict(environment))
    launch["launchParameter"]["jobName"] = f'${{"{nightly.name}-" + date}}'
    launch["launchParameter"]["parameters"]["date"] = "${date}"
    jobs = f"{_DATAFLOW}/v1b3/projects/{cloud.project}/locations/{cloud.region}"
    steps = [
        {
            "begin": {
                "assign": [
                    # once, and not of when a retry gets to it
                    {
                        "date": '${default(map.get(args, "date"),'
                        " text.substring(time.format(sys.now() - 86400), 0, 10))}"
                    },
                    {"mark": "{date}"},
                    {"inputs": [_listing(uri) for uri in nightly.options().inputs]},
                    {"late": f"${{sys.now() + {60 * nightly.late_minutes}}}"},
                    {"deadline": f"${{sys.now() + {int(3600 * nightly.deadline_hours)}}}"},
                    {"tries": 0},
                ]
            }
        },
        *_look_for_the_day(),
        *_launch(f"{jobs}/flexTemplates:launch", launch),
        *_wait_for_the_job(f"{jobs}/jobs/", nightly.retries),
    ]
    return {"main": {"params": ["args"], "steps": steps}}


def _parameters(nightly: Nightly) -> dict[str, str]:
    """What the template gets, the date aside."""
    nightly.options()
    given = nightly.given()
    if given["beam_arguments"]:
        raise UsageError(
            f"{given['beam_arguments'][0]} is no parameter of the template: what the job runs on"
            " is said by the flags of this command"
        )
    defaults = {option.name: option.default for option in label.params}
    for name, why in LEFT_OUT.items():
        if given[name] != defaults[name] and given[name]:
            raise UsageError(f"{name} can't be given to the template: {why}", parameter=name)
    return parameters({**given, "date": None})


def schedule(nightly: Nightly, cloud: Cloud) -> dict[str, Any]:
    """The body of a request to Cloud Scheduler's `projects.locations.jobs.create`."""
    place = f"projects/{cloud.project}/locations/{cloud.region}"
    body = json.dumps({"argument": "{}"}).encode()
    return {
        "name": f"{place}/jobs/{nightly.name}",
        "description": "Glossator: label the comments of the day before",
        "schedule": nightly.schedule,
        "timeZone": nightly.time_zone,
        "attemptDeadline": "60s",
        "retryConfig": {"retryCount": 5, "maxRetryDuration": f"{START_WITHIN_SECONDS}s"},
        "httpTarget": {
            "uri": "https://workflowexecutions.googleapis.com/v1/"
            f"{place}/workflows/{nightly.name}/executions",
            "httpMethod": "POST",
            "headers": {"Content-Type": "application/json"},
            "body": base64.b64encode(body).decode(),
            "oauthToken": {
                "serviceAccountEmail": cloud.scheduler_account,
                "scope": "https://www.googleapis.com/auth/cloud-platform",
            },
        },
    }


def _listing(uri: str) -> dict[str, str]:
    """Where an input is listed, and how the names of its files begin."""
    bucket, _, path = gs_uri("--input", uri).removeprefix("gs://").partition("/")
    first = min((path.index(magic) for magic in "*?[" if magic in path), default=len(path))
    return {"uri": f"{_STORAGE}/storage/v1/b/{bucket}/o", "begins": path[:first]}


def _look_for_the_day() -> list[Step]:
    return [
        {"look": {"assign": [{"missing": False}]}},
        {
            "look_at_each": {
                "for": {
                    "value": "input",
                    "in": "${inputs}",
                    "steps": [
                        {
                            "list_input": {
                                "try": {
                                    "call": "http.get",
                                    "args": {
                                        "url": "${input.uri}",
                                        "query": {
                                            "prefix": "${text.replace_all(input.begins, mark,"
                                            " date)}",
                                            "maxResults": 1,
                                        },
                                        "auth": _OAUTH,
                                    },
                                    "result": "listed",
                                },
                                **_RETRIED,
                            }
                        },
                        {
                            "is_there": {
                                "switch": [
                                    {
                                        "condition": '${not("items" in listed.body)}',
                                        "assign": [{"missing": True}],
                                    }
                                ]
                            }
                        },
                    ],
                }
            }
        },
        {
            "wait_for_the_day": {
                "switch": [
                    {"condition": "${not(missing)}", "next": "launch"},
                    {
                        "condition": "${sys.now() > late}",
                        "raise": {
                            "code": NOT_YET_CODE,
                            "message": '${"the input of " + date + " is not there yet"}',
                        },
                    },
                ]
            }
        },
        {"pause": {"call": "sys.sleep", "args": {"seconds": _LOOK_SECONDS}, "next": "look"}},
    ]


def _launch(url: str, body: Mapping[str, Any]) -> list[Step]:
    return [
        {
            "launch": {
                "try": {
                    "call": "http.post",
                    "args": {"url": url, "auth": _OAUTH, "body": body},
                    "result": "launched",
                },
                "retry": "${http.default_retry_non_idempotent}",
            }
        },
        {
            "count_try": {
                "assign": [{"tries": "${tries + 1}"}, {"job": "${launched.body.job.id}"}],
            }
        },
    ]


def _wait_for_the_job(jobs: str, retries: int) -> list[Step]:
    def asked(call: str, args: Mapping[str, Any], result: str) -> Step:
        given = {"url": f'${{"{jobs}" + job}}', "auth": _OAUTH, **args}
        return {"try": {"call": call, "args": given, "result": result}, **_RETRIED}

    failure = '"job " + job + " of " + date + " ended as " + state.body.currentState'
    return [
        {"poll": {"call": "sys.sleep", "args": {"seconds": _POLL_SECONDS}}},
        {"ask": asked("http.get", {"query": {"view": "JOB_VIEW_SUMMARY"}}, "state")},
        {
            "judge": {
                "switch": [
                    {
                        "condition": '${state.body.currentState == "JOB_STATE_DONE"}',
                        "return": {"date": "${date}", "job": "${job}"},
                    },
                    {
                        "condition": '${state.body.currentState == "JOB_STATE_FAILED"}',
                        "next": "messages",
                    },
                    {
                        "condition": '${state.body.currentState == "JOB_STATE_CANCELLED"}',
                        "raise": {"code": 1, "message": f"${{{failure}}}"},
                    },
                    {"condition": "${sys.now() > deadline}", "next": "cancel"},
                ],
                "next": "poll",
            }
        },
        {
            "cancel": asked(
                "http.put", {"body": {"requestedState": "JOB_STATE_CANCELLED"}}, "cancelled"
            )
        },
        {
            "too_late": {
                "raise": {
                    "code": 1,
                    "message": '${"job " + job + " of " + date + " took too long: cancelled"}',
                }
            }
        },
        {
            "messages": asked(
                "http.get",
                {
                    "url": f'${{"{jobs}" + job + "/messages"}}',
                    "query": {"minimumImportance": "JOB_MESSAGE_ERROR", "pageSize": 20},
                },
                "said",
            )
        },
        {
            "after_failure": {
                "switch": [
                    {
                        "condition": "${text.match_regex(json.encode_to_string(said.body),"
                        f' "{_REFUSED}")}}',
                        "raise": {
                            "code": 3,
                            "message": f'${{{failure} + ": a check refused to publish"}}',
                        },
                    },
                    {
                        "condition": f"${{tries > {retries} or sys.now() > deadline}}",
                        "raise": {"code": 1, "message": f"${{{failure}}}"},
                    },
                ]
            }
        },
        {
            "retry_later": {
                "call": "sys.sleep",
                "args": {"seconds": 60 * RETRY_MINUTES},
                "next": "launch",
            }
        },
    ]


def _refuse_expressions(values: list[Any]) -> None:
    for value in values:
        if "${" in str(value):
            raise UsageError(f"{value!r} would be filled in by the workflow: write no ${{ in it")
