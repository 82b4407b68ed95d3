"""What commonly breaks a clause, and how it is told not to: as docs/paths.md shows it, and the manuals have it."""

from __future__ import annotations

REMEDIES = {
    "all_bytes": "something takes the bytes for text: socat: no crlf, crnl or pty; ssh: no -t; telnet: set binary",
    "one_at_a_time": "something waits for a line or a full buffer: socat: no pty or readline; a program: stdbuf -o0",
    "half_close": (
        "nginx stream: proxy_half_close on; socat: -t 3600 (it waits half a second); "
        "haproxy: a longer timeout client-fin and server-fin; ncat: socat in its place"
    ),
    "fin_after_data": "ncat passes on no FIN of the server's while its client is there: socat in its place",
    "late_reader": (
        "something closes with data unread: haproxy: no option nolinger; or a longer timeout after FIN; "
        "ncat passes on no FIN of the server's: socat in its place"
    ),
    "reset": (
        "what reads from one socket and writes to another ends both with close(2), which sends FIN: "
        "let messages tell their length; or forward packets (NAT, IPVS) in place of bytes"
    ),
    "back_pressure": "something reads on into its own memory: bound its buffer, and stop reading when it is full",
    "server_first": "something chooses by what the client says first: a port of its own for such a server",
    "simultaneous_close": "something sends RST where two FINs cross: haproxy: no option nolinger",
    "many_at_once": "a limit on connections: haproxy: maxconn; nginx: worker_connections; socat: max-children",
    "idle": (
        "a timeout: haproxy: timeout client, server and tunnel; nginx stream: proxy_timeout; "
        "NAT: nf_conntrack_tcp_timeout_established; or say something more often"
    ),
    "refused": "something keeps its clients while it has nobody to lead them to: a shorter connect timeout",
}
