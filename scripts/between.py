"""What may stand between a client and a server, as Debian has it: each is started, examined and ended.

Each is a context manager that is given the server's port and gives a `Between`. The port that it listens on stays ours
from the choice to the end: a socket is bound to it that does not listen, and all of these set SO_REUSEADDR.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from iolab_client.servers.address import Address

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0
# In a container the server has its addresses for itself.
INSIDE_PORT = 9000


class Missing(Exception):
    """A program that is not on this machine; the message says how to get it."""


@dataclass(frozen=True, kw_only=True)
class Between:
    """Something that leads from its front to a server."""

    front: Address
    version: str
    # The command and the files by which it was started, to read.
    how: str
    # Where the server is, if it is elsewhere than on loopback of this machine.
    back: Address | None = None
    namespace: Path | None = None


Starter = Callable[[int], AbstractContextManager[Between]]


@contextmanager
def free_port() -> Iterator[int]:
    """A port of loopback that nobody else gets while the block lasts."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, 0))
        yield holder.getsockname()[1]


@contextmanager
def direct(back: int) -> Iterator[Between]:
    """Nothing at all."""
    release = re.match(r"\d+\.\d+", os.uname().release)
    yield Between(front=(LOOPBACK, back), version=f"Linux {release[0] if release else '?'}", how="")


@contextmanager
def socat(back: int, wait: str = "") -> Iterator[Between]:
    """A process for each connection."""
    with free_port() as port:
        command = [
            *("socat", *(("-t", wait) if wait else ())),
            f"TCP-LISTEN:{port},bind={LOOPBACK},reuseaddr,fork,backlog=128",
            f"TCP:{LOOPBACK}:{back}",
        ]
        with running(command, port, "socat"):
            yield Between(front=(LOOPBACK, port), version=version("socat", "-V"), how=told(command, port, back))


NGINX = """\
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {}
stream {
    server {
        listen 127.0.0.1:FRONT;
        proxy_pass 127.0.0.1:BACK;OPTION
    }
}
"""


@contextmanager
def nginx(back: int, option: str = "") -> Iterator[Between]:
    """Its stream module."""
    text = NGINX.replace("OPTION", f"\n        {option}" if option else "")
    with free_port() as port, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "nginx.conf")
        file.write_text(filled(text, port, back) + f"pid {folder}/pid;\ndaemon off;\nmaster_process off;\n")
        command = ["nginx", "-p", folder, "-c", str(file), "-e", f"{folder}/error.log"]
        with running(command, port, "nginx-light libnginx-mod-stream"):
            yield Between(front=(LOOPBACK, port), version=version("nginx", "-v"), how=text)


HAPROXY = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen path
    bind 127.0.0.1:FRONT
    server path 127.0.0.1:BACK
"""


@contextmanager
def haproxy(back: int) -> Iterator[Between]:
    """In TCP mode."""
    with free_port() as port, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "haproxy.cfg")
        file.write_text(filled(HAPROXY, port, back))
        with running(["haproxy", "-db", "-f", str(file)], port, "haproxy"):
            yield Between(front=(LOOPBACK, port), version=version("haproxy", "-v"), how=HAPROXY)


@contextmanager
def ncat(back: int) -> Iterator[Between]:
    """A second ncat for each connection."""
    with free_port() as port:
        command = ["ncat", "--listen", "--keep-open", LOOPBACK, str(port), "--sh-exec", f"ncat {LOOPBACK} {back}"]
        with running(command, port, "ncat"):
            yield Between(front=(LOOPBACK, port), version=version("ncat", "--version"), how=told(command, port, back))


@contextmanager
def ssh(back: int) -> Iterator[Between]:
    """A tunnel through an sshd of its own, on loopback."""
    with free_port() as port, free_port() as sshd_port, tempfile.TemporaryDirectory() as folder:
        for name in ("host", "user"):
            call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}")
        Path(folder, "authorized").write_text(Path(folder, "user.pub").read_text())
        settings = {
            "ListenAddress": LOOPBACK,
            "Port": str(sshd_port),
            "HostKey": f"{folder}/host",
            "AuthorizedKeysFile": f"{folder}/authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
        }
        file = Path(folder, "sshd_config")
        file.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        # It separates its privileges there; on Debian its service makes the folder.
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = ["ssh", "-N", "-L", f"{LOOPBACK}:{port}:{LOOPBACK}:{back}"]
        options = ["-F", "none", "-i", f"{folder}/user", "-p", str(sshd_port)]
        for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"):
            options += ["-o", option]
        user = psutil.Process().username()
        with (
            running([program("sshd", "openssh-server"), "-D", "-e", "-f", str(file)], sshd_port, "openssh-server"),
            running([*command, *options, f"{user}@{LOOPBACK}"], port, "openssh-client"),
        ):
            yield Between(
                front=(LOOPBACK, port), version=version("ssh", "-V"), how=told([*command, "HOST"], port, back)
            )


@contextmanager
def docker(_: int, *, through_proxy: bool) -> Iterator[Between]:
    """A published port of a container, by which the server is: through docker-proxy, or through NAT.

    This machine reaches a port that is published on 127.0.0.1 through docker-proxy, since what loopback sends is not
    rewritten; one that is published on the address of a bridge, through the rule of iptables.
    """
    name = f"iolab-paths-{os.getpid()}-{'proxy' if through_proxy else 'nat'}"
    try:
        call("docker", "network", "create", name)
        network = json.loads(call("docker", "network", "inspect", name))[0]
        host = LOOPBACK if through_proxy else network["IPAM"]["Config"][0]["Gateway"]
        command = ["docker", "run", "--detach", "--init", "--network", name, "--publish", f"{host}::{INSIDE_PORT}"]
        call(*command, "--name", name, "--entrypoint", "sleep", os.environ["BASE_IMAGE"], "infinity")
        container = json.loads(call("docker", "inspect", name))[0]
        port = int(container["NetworkSettings"]["Ports"][f"{INSIDE_PORT}/tcp"][0]["HostPort"])
        engine = call("docker", "version", "--format", "{{.Server.Version}}")
        shown = f"docker run --publish {LOOPBACK if through_proxy else 'GATEWAY'}:FRONT:BACK ..."
        yield Between(
            front=(host, port),
            version=f"Docker {engine.strip()}",
            how=shown,
            back=("0.0.0.0", INSIDE_PORT),
            namespace=Path(f"/proc/{container['State']['Pid']}/ns/net"),
        )
    finally:
        for command in (["rm", "--force", name], ["network", "rm", name]):
            subprocess.run(["docker", *command], capture_output=True, check=False)


# What docs/paths.md has, in its order.
PATHS: dict[str, Starter] = {
    "direct": direct,
    "Docker's NAT": partial(docker, through_proxy=False),
    "docker-proxy": partial(docker, through_proxy=True),
    "haproxy": haproxy,
    "nginx stream": nginx,
    "nginx stream, proxy_half_close": partial(nginx, option="proxy_half_close on;"),
    "socat": socat,
    "socat -t 3600": partial(socat, wait="3600"),
    "ssh -L": ssh,
    "ncat": ncat,
}


def filled(text: str, front: int, back: int) -> str:
    """The ports in place of their names."""
    return text.replace("FRONT", str(front)).replace("BACK", str(back))


def told(command: list[str], front: int, back: int) -> str:
    """The names of the ports in place of them."""
    words = (f"'{word}'" if " " in word else word for word in command)
    return " ".join(words).replace(str(front), "FRONT").replace(str(back), "BACK")


def program(name: str, packages: str) -> str:
    """Where it is. Raises Missing."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise Missing(f"there is no {name}: apt-get install {packages}")
    return found


def call(*command: str) -> str:
    """What a command prints, on either output. Raises CalledProcessError, with what it complains of."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()}")
    return done.stdout


def version(name: str, option: str) -> str:
    """The program's name and the first number with a dot that it prints."""
    number = re.search(r"\d+\.\d+[\w.]*", call(program(name, name), option))
    return f"{name} {number[0] if number else '?'}"


@contextmanager
def running(command: list[str], port: int, packages: str) -> Iterator[None]:
    """A program that listens on `port` while the block lasts, and what it has started. Raises Missing."""
    path = program(command[0], packages)
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [path, *command[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _listens(process.pid, port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{' '.join(command)} does not listen on {port}: {log.read().strip()}")
                time.sleep(0.02)
            yield
        finally:
            # Its session: also the processes that it has made for connections.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(pid: int, port: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(
            one.status == psutil.CONN_LISTEN and one.laddr.port == port
            for one in psutil.Process(pid).net_connections(kind="tcp")
        )
    return False
