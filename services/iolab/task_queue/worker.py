"""The other side of the broker: a Celery worker. `python -m iolab.task_queue.worker` runs one.

Ring 0 runs here: a task carries the bytes and the work dial of the server that sent it, so one worker can serve every
server. The answer goes onto a list, which that server empties over one connection; Celery's own result store would take
a connection for each waiting thread, and keep every answer after it was fetched.
"""

from __future__ import annotations

if __name__ == "__main__":
    from iolab.safe_path import leave_out_current_directory

    leave_out_current_directory()

    from iolab.server.surroundings import leave_out_options_of_others

    leave_out_options_of_others()

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from celery import signals
from celery.platforms import SecurityWarning

from iolab import configs, log, settings
from iolab.kernel.threads import name_thread
from iolab.registry import find
from iolab.server import surroundings
from iolab.server.errors import CannotServe
from iolab.server.stop import SIGNALS
from iolab.task_queue.address import BY_SERVER, STARTED_BY, configured
from iolab.task_queue.application import COMMAND_SECONDS, application, register, store


def main() -> None:
    """Run one worker, which does one task at a time, until SIGTERM; more workers do more at once.

    A server's own worker ignores the stop: the server ends it when no client waits for an answer.
    """
    by_server = os.environ.get(STARTED_BY) == BY_SERVER
    surroundings.put_right(blocked=SIGNALS if by_server else frozenset())
    surroundings.exit_at_signals()
    name_thread("task_worker")
    log.configure("info", "task_worker")
    # Whether to run as root is the user's choice; messages are JSON, and carry no code.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    try:
        model = find("task_queue")
        with surroundings.handlers_run_in_time():
            values = configs.load(model, folder)
        configs.check_environment(values, model, os.environ)
        surroundings.close_inherited_descriptors()
        url = configured(values)
    except (settings.BadSetting, CannotServe) as error:
        sys.exit(f"iolab: {error}")
    if url is None:
        sys.exit("iolab: no broker to work for; name it: broker_url in configs/models/task_queue.yaml")

    @signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def ready(**_: Any) -> None:
        # Tells that the worker takes tasks: docker-compose.yml checks for a file, a server reads a pipe.
        if file := os.environ.get("IOLAB_READY_FILE"):
            Path(file).write_text("ready\n")
        log.info("ready", visibility_timeout=values.visibility_timeout)

    app = application(values, url)
    register(app, store(url, socket_timeout=COMMAND_SECONDS))
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    app.worker_main(["--quiet", "worker", "--pool=solo", *quiet])


if __name__ == "__main__":
    main()
