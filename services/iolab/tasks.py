"""The other side of the broker: the task, and the Celery worker that does it. `python -m iolab.tasks` runs one.

Ring 0 runs here: a task brings the bytes and the work dial of the server that sent it, so that one worker serves every
server. The answer goes onto a list of that server's, which it empties over one connection; Celery's own result store
would take a connection for each thread that waits, and keep every answer after it was fetched.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import redis
from celery import Celery, signals
from celery.app.amqp import AMQP
from celery.platforms import SecurityWarning
from kombu import Connection
from kombu.exceptions import KombuError, LimitExceeded
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from iolab import log, settings
from iolab.broker import NUMBER_BYTES, configured
from iolab.registry import find
from iolab.server import CannotServe
from iolab.session import Session
from iolab.settings import Settings, Work
from iolab.threads import name_thread

QUEUE = "iolab"
PUBLISHERS = 4
# An answer that nobody fetches is gone after so long: its server has died.
ANSWER_SECONDS = 60
# How long a worker looks for its broker, before it looks again.
CONNECT_SECONDS = 1.0
# How long a command to the broker may take: it answers from memory, or it is not there.
COMMAND_SECONDS = 2.0
# What a broker that is gone, or full, is noticed by.
ERRORS = (OSError, RedisError, KombuError, LimitExceeded)


class SoonBackConnection(Connection):  # type: ignore[misc]  # kombu has no types
    """Looks for a broker that is gone every second; kombu's own pauses grow to 30 s, long after it is back."""

    def ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        """As kombu's, with pauses that do not grow."""
        return super().ensure_connection(
            *arguments, **{"interval_start": 1, "interval_step": 0, "interval_max": 1} | options
        )


class SoonBack(AMQP):  # type: ignore[misc]  # Celery has no types
    """Celery's protocol, over such connections."""

    Connection = SoonBackConnection


def application(values: Settings, url: str) -> Celery:
    """Celery as servers and workers have it in common. `url` is the broker's, as kombu spells it."""
    app = Celery("iolab", broker=url, amqp=SoonBack, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        # Acknowledged once it is answered: when its worker dies before that, another one is given it.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Nobody asks the workers anything, and each of these would be a message more.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Connections that publish; the threads of a server take turns.
        broker_pool_limit=PUBLISHERS,
        broker_transport_options={
            "visibility_timeout": values.visibility_timeout,
            # Every second somebody looks for tasks whose worker has died; kombu's own looks come every 100 s.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "health_check_interval": 5,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": COMMAND_SECONDS,
            "socket_keepalive": True,
            # For who publishes: one try, and its server decides about the next.
            "max_retries": 1,
            "interval_start": 0,
            "interval_max": 0,
        },
    )
    return app


def store(url: str, **options: Any) -> redis.Redis:
    """A client of the broker for the lists of answers. It tries nothing twice by itself: a try may have had effect."""
    if not url.startswith("redis+socket:"):
        options |= {"socket_keepalive": True, "socket_connect_timeout": CONNECT_SECONDS}
    url = url.replace("redis+socket:", "unix:")
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)


def register(app: Celery, answers: redis.Redis | None = None) -> Any:
    """The task. A server only sends it; a worker, which gives `answers`, does it."""

    @app.task(name="iolab.answer")  # type: ignore[untyped-decorator]
    def answer(to: str, number: int, data: bytes, cpu_us: int, wait_ms: int) -> None:
        assert answers is not None
        respond = Session(Work(cpu_us=cpu_us, wait_ms=wait_ms)).answer(time.sleep)
        pipeline = answers.pipeline(transaction=False)
        pipeline.rpush(to, number.to_bytes(NUMBER_BYTES) + respond(data))
        pipeline.expire(to, ANSWER_SECONDS)
        pipeline.execute()

    return answer


def main() -> None:
    """Run one worker, which does one task at a time, until SIGTERM; more workers do more at once."""
    name_thread("task_worker")
    log.configure("info", "task_worker")
    # Root or not is for whoever starts it to say; messages are JSON, and no code comes in with them.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    try:
        values = settings.load(find("task_queue"), folder)
        url = configured(values)
    except (settings.BadSetting, CannotServe) as error:
        sys.exit(f"iolab: {error}")
    if url is None:
        sys.exit("iolab: no broker to work for; name it: broker_url in configs/models/task_queue.yaml")

    @signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def ready(**_: Any) -> None:
        # For who waits until it takes tasks, such as docker-compose.yml.
        if file := os.environ.get("IOLAB_READY_FILE"):
            Path(file).touch()
        log.info("ready", visibility_timeout=values.visibility_timeout)

    app = application(values, url)
    register(app, store(url, socket_timeout=COMMAND_SECONDS))
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    app.worker_main(["--quiet", "worker", "--pool=solo", *quiet])


if __name__ == "__main__":
    main()
