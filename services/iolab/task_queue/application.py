"""The Celery application that servers and workers have in common, and the task."""

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
# An answer that nobody fetches is gone after so long: its server has died.
ANSWER_SECONDS = 60
# How long a worker looks for its broker, before it looks again.
CONNECT_SECONDS = 1.0
# How long a command to the broker may take: it answers from memory, or it is not there.
COMMAND_SECONDS = 2.0
# What a broker that is gone, or full, is noticed by.
ERRORS = (OSError, RedisError, KombuError, LimitExceeded)


@cache
def _reconnecting(transport: Any) -> Any:
    """That transport of kombu's, for which an error that the broker answers with is one of the connection.

    A broker that becomes a replica, loads its data or has lost its master says so in this way. kombu takes it for a
    bug, at which Celery's worker would end, with exit 0.
    """
    errors = (*transport.connection_errors, ResponseError)
    return type("ReconnectingTransport", (transport,), {"connection_errors": errors})


class SoonBackConnection(Connection):  # type: ignore[misc]  # kombu has no types
    """Looks for a broker that is gone every second; kombu's own pauses grow to 30 s, long after it is back."""

    def get_transport_cls(self) -> Any:
        """As kombu's, but made to reconnect."""
        return _reconnecting(super().get_transport_cls())

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
    """A client of the broker for the lists of answers. It tries nothing twice by itself: a try may have had effect.

    After an error it connects anew, as whoever sends and takes tasks does.
    """
    if not url.startswith("redis+socket:"):
        options |= {"socket_keepalive": True, "socket_connect_timeout": CONNECT_SECONDS}
    url = url.replace("redis+socket:", "unix:")
    errors = (redis.ConnectionError, redis.TimeoutError, ResponseError)
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0, supported_errors=errors), **options)


def register(app: Celery, answers: redis.Redis | None = None) -> Any:
    """The task. A server only sends it; a worker, which gives `answers`, does it."""

    @app.task(name="iolab.answer")  # type: ignore[untyped-decorator]
    def answer(to: str, number: int, data: bytes, cpu_us: int, wait_ms: int) -> None:
        assert answers is not None
        respond = Work(cpu_us=cpu_us, wait_ms=wait_ms).answer(time.sleep)
        pipeline = answers.pipeline(transaction=False)
        pipeline.rpush(to, number.to_bytes(NUMBER_BYTES) + respond(data))
        pipeline.expire(to, ANSWER_SECONDS)
        pipeline.execute()

    return answer


# Bytes in front of an answer on the list: which task it is the answer to.
NUMBER_BYTES = 8
