"""An Airflow DAG of one task, as the text of a file for the DAGs folder."""

from __future__ import annotations

from glossator.deploy.settings import FINAL_CODES, NOT_YET_CODE, RETRY_MINUTES, Nightly

_LOOK_MINUTES = 10
"""Between two tries for a day that is late."""

_DAG = '''"""Label the comments of the day before, every night.

Rendered by `python -m glossator.deploy.nightly airflow`; needs Airflow 3.2 or newer and its
standard provider. Glossator is not imported: it has its own virtual environment.

What is published is an event of the asset {name!r}, with the date and the output in its `extra`:
`DAG(schedule=[Asset({name!r})])` runs after each night.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, Asset, BaseSensorOperator, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException


class Glossator(BaseSensorOperator):
    """Waits for the day, and labels it once it is there; takes no worker's slot in between.

    The command is run without a shell, and what can't succeed is not tried again.
    """

    template_fields = ("date",)

    def __init__(self, *, command, published, date, **more):
        super().__init__(**more)
        self.command = command
        self.published = published
        self.date = date
        self.hook = None

    def poke(self, context):
        self.hook = SubprocessHook()
        code = self.hook.run_command([*self.command, f"--date={{self.date}}"]).exit_code
        self.hook = None  # it has ended, and there is nothing left to stop
        if code == {not_yet}:
            return False
        if code in {final}:
            raise AirflowFailException(f"glossator ended with code {{code}}: see its last lines")
        if code:
            raise AirflowException(f"glossator ended with code {{code}}: a retry resumes")
        for asset in self.outlets:
            output = self.published.replace("{{date}}", self.date)
            context["outlet_events"][asset].extra = {{"date": self.date, "output": output}}
        return True

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
        published={output!r},
        date="{{{{ ds }}}}",
        outlets=[Asset({name!r})],
        mode="reschedule",
        poke_interval=timedelta(minutes={look}),
        timeout=timedelta(minutes={late}),
        retries={retries},
        retry_delay=timedelta(minutes={delay}),
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
        output=nightly.options().output,
        retries=nightly.retries,
        delay=RETRY_MINUTES,
        look=_LOOK_MINUTES,
        late=nightly.late_minutes,
        hours=nightly.deadline_hours,
        final=FINAL_CODES,
        not_yet=NOT_YET_CODE,
    )
