"""An Airflow DAG of one task, as the text of a file for the DAGs folder."""

from __future__ import annotations

from glossator.deploy.settings import FINAL_CODES, Nightly

_DAG = '''"""Label the comments of the day before, every night.

Rendered by `python -m glossator.deploy.nightly airflow`; needs Airflow 3.2 or newer and its
standard provider. Glossator is not imported: it has its own virtual environment.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException


class Glossator(BaseOperator):
    """Runs the command without a shell, and does not try again what can't succeed."""

    template_fields = ("date",)

    def __init__(self, *, command, date, **more):
        super().__init__(**more)
        self.command = command
        self.date = date
        self.hook = None

    def execute(self, context):
        self.hook = SubprocessHook()
        code = self.hook.run_command([*self.command, f"--date={{self.date}}"]).exit_code
        self.hook = None  # it has ended, and there is nothing left to stop
        if code in {final}:
            raise AirflowFailException(f"glossator ended with code {{code}}: see its last lines")
        if code:
            raise AirflowException(f"glossator ended with code {{code}}: a retry resumes")

    def on_kill(self):
        if self.hook is not None:
            self.hook.send_sigterm()


with DAG(
    {name!r},
    # the data interval begins the day before, and its date is what {{{{ ds }}}} gives
    schedule=CronDataIntervalTimetable({schedule!r}, timezone={time_zone!r}),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["glossator"],
):
    Glossator(
        task_id="label",
        command={command},
        date="{{{{ ds }}}}",
        retries={retries},
        retry_delay=timedelta(minutes=5),
        execution_timeout=timedelta(hours={hours!r}),
    )
'''


def dag(nightly: Nightly, program: str) -> str:
    """The text of the DAG's file.

    Args:
        nightly: what and when.
        program: where `glossator` is on Airflow's workers.
    """
    words = "".join(f"            {word!r},\n" for word in (program, *nightly.arguments()))
    return _DAG.format(
        name=nightly.name,
        schedule=nightly.schedule,
        time_zone=nightly.time_zone,
        command=f"[\n{words}        ]",
        retries=nightly.retries,
        hours=nightly.deadline_hours,
        final=FINAL_CODES,
    )
