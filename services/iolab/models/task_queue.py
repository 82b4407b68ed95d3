"""Task queue: every message is a task, which a broker passes to a free worker on any machine.

Waits in   accept(2) and recv(2) as thread_per_connection does; or in futex(2) while a worker makes an answer
Runs       a thread per client here; the work in any number of Celery workers, each one task at a time
Costs      two trips through the broker per answer, a hundred times what the answer itself costs
Breaks at  the throughput of one broker; without a broker or a worker, at the first message
Compare    thread_per_connection (same threads, which answer themselves), epoll_pool (answers by its own threads)
"""

from __future__ import annotations

from iolab.models import thread_per_connection
from iolab.server.server import Server
from iolab.task_queue.dispatch import open_broker


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    with open_broker(server) as broker:
        server.answer = broker.answer
        thread_per_connection.serve(server)
