"""The Celery application that servers and workers share, and the task."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import redis
from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection
from kombu.exceptions import KombuError, LimitExceeded
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from iolab.settings import Settings
from iolab.work import Work

QUEUE = "iolab"
PUBLISHERS = 4
# The broker drops an answer that is not fetched for this long: its server has died.
ANSWER_SECONDS = 60
# How long a worker tries to connect to its broker before it tries again.
CONNECT_SECONDS = 1.0
# How long a command to the broker may take. It answers from memory, so a slower one is gone.
COMMAND_SECONDS = 2.0
# The errors that show that the broker is gone, or full.
ERRORS = (OSError, RedisError, KombuError, LimitExceeded)


@cache
def _reconnecting(transport: Any) -> Any:
    """A transport of kombu that treats an error reply of the broker as a connection error.

    A broker sends such replies when it becomes a replica, loads its data or has lost its master. kombu takes them for
    bugs, and Celery's worker would end, with exit 0.
    """
    errors = (*transport.connection_errors, ResponseError)
    return type("ReconnectingTransport", (transport,), {"connection_errors": errors})


class SoonBackConnection(Connection):  # type: ignore[misc]  # kombu has no types
    """Retries a lost broker every second; kombu's own pauses grow to 30 s, long after the broker is back."""

    def get_transport_cls(self) -> Any:
        """As in kombu, but made to reconnect."""
        return _reconnecting(super().get_transport_cls())

    def ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        """As in kombu, with pauses that do not grow."""
        return super().ensure_connection(
            *arguments, **{"interval_start": 1, "interval_step": 0, "interval_max": 1} | options
        )


class SoonBack(AMQP):  # type: ignore[misc]  # Celery has no types
    """Celery's protocol, over such connections."""

    Connection = SoonBackConnection


def application(values: Settings, url: str) -> Celery:
    """The Celery application of servers and workers. `url` is the broker's, as kombu spells it."""
    app = Celery("iolab", broker=url, amqp=SoonBack, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        # Acknowledged when the task is done: if its worker dies before, another worker gets it.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Nothing queries the workers, and each of these would add messages.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # The connections that publish, shared by the threads of a server.
        broker_pool_limit=PUBLISHERS,
        broker_transport_options={
            "visibility_timeout": values.visibility_timeout,
            # Workers look for tasks of dead workers every second; kombu's default is every 100 s.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "health_check_interval": 5,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": COMMAND_SECONDS,
            "socket_keepalive": True,
            # Publishing tries once; the server decides whether to try again.
            "max_retries": 1,
            "interval_start": 0,
            "interval_max": 0,
        },
    )
    return app


def store(url: str, **options: Any) -> redis.Redis:
    """A client of the broker for the lists of answers. It retries nothing: a failed try may have had its effect.

    After an error it reconnects, as senders and takers of tasks do.
    """
    if not url.startswith("redis+socket:"):
        options |= {"socket_keepalive": True, "socket_connect_timeout": CONNECT_SECONDS}
    url = url.replace("redis+socket:", "unix:")
    errors = (redis.ConnectionError, redis.TimeoutError, ResponseError)
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0, supported_errors=errors), **options)


def register(app: Celery, answers: redis.Redis | None = None) -> Any:
    """The task. A server only sends it; a worker, which passes `answers`, does it."""

    @app.task(name="iolab.answer")  # type: ignore[untyped-decorator]
    def answer(to: str, number: int, data: bytes, cpu_us: int, wait_ms: int) -> None:
        assert answers is not None
        respond = Work(cpu_us=cpu_us, wait_ms=wait_ms).answer(time.sleep)
        pipeline = answers.pipeline(transaction=False)
        pipeline.rpush(to, number.to_bytes(NUMBER_BYTES) + respond(data))
        pipeline.expire(to, ANSWER_SECONDS)
        pipeline.execute()

    return answer


# The size of the task's number in front of each answer on the list.
NUMBER_BYTES = 8
