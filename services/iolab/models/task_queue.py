"""Task queue: every message is a task, sent through a broker to whichever worker is free, on any machine.

Waits in   accept(2) and recv(2) as thread_per_connection does; or in futex(2) while a worker makes an answer
Runs       a thread per client here, and the work in as many Celery workers as there are, one task at a time each
Costs      two trips through the broker per answer, a hundred times what the answer itself costs
Breaks at  what one broker passes on; and without broker or worker at the first message
Compare    thread_per_connection (the same, but it answers by itself), epoll_pool (hands answers to threads of its own)
"""

from __future__ import annotations

from iolab.models import thread_per_connection
from iolab.server.server import Server
from iolab.task_queue.dispatch import open_broker


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    with open_broker(server) as broker:
        server.answer = broker.answer
        thread_per_connection.serve(server)
