"""`python -m glossator.deploy.flink.pool`: the worker pool beside each TaskManager."""

from __future__ import annotations

import logging
import os
import signal
import threading

import click

from glossator.model.commands import Command

PORT = 50000


_LOOK_SECS = 0.5


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True)
@click.option(
    "--allow-uid",
    "allow_uid",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="UID",
    help="Another user who may have it start workers; by default only whoever started the pool.",
)
@click.option(
    "--allow-any-local-user",
    is_flag=True,
    help="Serve every user of this machine: each of them can then run programs as this one.",
)
def serve(port: int, allow_uid: tuple[int, ...], allow_any_local_user: bool) -> None:
    """Start workers on this machine for those who may ask at localhost:PORT, until it is ended."""
    # Beam takes seconds to import, and whoever wants the port's number alone need not wait
    from glossator.pipeline.engines import worker_pool

    logging.basicConfig(format=worker_pool.LOG_FORMAT, force=True)  # the command line has its own
    log = logging.getLogger("glossator.pool")
    log.setLevel(logging.INFO)
    uids = None if allow_any_local_user else {os.getuid(), *allow_uid}
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server, _ = worker_pool.start_server(port, uids)
    whom = "any user of this machine" if uids is None else f"users {sorted(uids)}"
    log.info("starts workers at localhost:%d for %s", port, whom)
    while not ended.wait(_LOOK_SECS):  # a signal may go to a thread that is not this one
        pass
    server.stop(None)


if __name__ == "__main__":
    from glossator.pipeline.cli import main

    main(command=serve, program="python -m glossator.deploy.flink.pool")
