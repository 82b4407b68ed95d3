"""Who gets the connection: a listener for each process, or one for all, of which all are woken, or one.

Claim    With a listener for each process (SO_REUSEPORT) connections are dealt evenly; on one for all, some process
         gets half more than its share.
Source   M. Majkowski, "Why does one NGINX worker take all the load?", Cloudflare blog, 2017; socket(7), epoll_ctl(2)
Method   prefork_epoll, 4 processes, 64 clients that come one after another: connections of the busiest process; then
         64 at once that ask, answers computing 0.2 ms: p99; plain processes
Decides  HOLDS if the busiest has less than half more than its share with reuseport, and not less with exclusive;
         DEPENDS if that holds of shared but not of exclusive; FAILS if neither
Costs    quick 24 s, full 110 s
"""

from __future__ import annotations

from iolab_client.results.measurement import NOISY, STARVED, UNSTABLE
from iolab_client.servers import admin
from iolab_client.trial.bench import Bench, Side, silent
from iolab_client.trial.finding import Finding, found
from iolab_client.trial.seen import Seen, shown
from iolab_client.trial.shows import Shows

MODEL = "prefork_epoll"
PROCESSES = 4
CLIENTS = 64
OWN, SHARED, ONE = "reuseport", "shared", "exclusive"
MORE = 1.5 * CLIENTS / PROCESSES
SHOWS = Shows(
    across="",
    values={
        "busiest": "of 64 connections, those of the busiest of 4 processes",
        "p99": "p99 (µs)",
        "rate": "answers/s",
    },
    draws="busiest",
)


def measure(bench: Bench) -> None:
    """Who got how many of those who came in turn; then what a crowd is answered."""
    settings = {"processes": PROCESSES, "work": {"cpu_us": 200}}
    sides = [Side(name=way, model=MODEL, settings={**settings, "accept": way}) for way in (OWN, SHARED, ONE)]
    for turn in bench.turns(*sides, place=bench.means.everywhere):
        with turn.server() as server:
            with silent(server, CLIENTS):
                families = admin.metrics(server.target)
                name = "iolab_process_connections_open"
                counts = [admin.value(families, name, number=str(number)) or 0.0 for number in range(PROCESSES)]
            turn.load(server, at=CLIENTS, connections=CLIENTS, expected=(STARVED, UNSTABLE, NOISY))
            turn.note(at=CLIENTS, busiest=max(counts))


def judge(seen: Seen) -> Finding:
    """By the busiest process's connections, the median of the rounds."""
    busiest = {way: seen.median((way, CLIENTS), "busiest") for way in (OWN, SHARED, ONE)}
    even = busiest[OWN] < MORE
    told = "; ".join(
        f"{way} {busiest[way]:.0f} of {CLIENTS}, p99 {shown(seen.median((way, CLIENTS), 'p99') / 1000)} ms"
        for way in busiest
    )
    why = (
        f"The busiest of {PROCESSES} processes had: {told}. With a listener each the kernel deals by a hash of both "
        "addresses, so that everyone has about as many, whoever is busy. On one listener the first that comes back "
        "to accept(2) takes the client; of those who wait in epoll_wait(2) the kernel wakes the one that began to "
        "wait last, and while clients come one by one these are the same few."
    )
    one, shared = busiest[ONE] >= MORE, busiest[SHARED] >= MORE
    return found(
        even and one,
        why,
        flip="on one listener for all, and not if one is woken" if even and shared and not one else "",
    )
