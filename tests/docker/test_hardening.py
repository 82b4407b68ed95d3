"""What a container may not do: as the engine has it in its books, and by trying it from inside.

Programs run with `docker exec` get the container's user, limits and lack of rights, as one would that got in by a flaw
of the server.
"""

from __future__ import annotations

import errno
import json
import time
from typing import Any

import pytest

from iolab.registry import MODELS
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.docker.project import Project, Service
from tests.support.compose import BUSY_POLL_CPUS
from tests.support.models import only
from tests.support.waiting import eventually, for_a_while

MEBIBYTE = 1024 * 1024
USER = 10001
ADMIN_PORT = 9100
NO_RIGHTS = {f"Cap{kind}": "0000000000000000" for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} | {"NoNewPrivs": "1"}

# Each must fail, whoever runs it.
TAMPERING = {
    "write to the root": "touch /intruder",
    "write where programs are": "touch /opt/iolab/bin/intruder",
    "change the server": "echo >>/opt/iolab/bin/iolab",
    "write to /tmp": "touch /tmp/intruder",
    "write to /etc": "echo >>/etc/passwd",
    "write to the configs": "touch /etc/iolab/intruder",
    "change a config": "echo >>/etc/iolab/defaults.yaml",
    "remove a config": "rm -f /etc/iolab/defaults.yaml",
    "make the root writable": "mount -o remount,rw /",
    "make the configs writable": "mount -o remount,rw,bind /etc/iolab",
    "mount anything": "mount -t tmpfs none /mnt",
    "change the kernel's settings": "echo 1 >/proc/sys/net/ipv4/tcp_timestamps",
    "have more threads": "echo max >/sys/fs/cgroup/pids.max || echo max >/sys/fs/cgroup/pids/pids.max",
    "have more descriptors": "ulimit -Hn 16385 && exec true",
}

# Each must raise PermissionError: a system call that needs a capability.
PRIVILEGES = {
    "become somebody else": "os.setuid(1)",
    "change the root": "os.chroot('/')",
    "give files away": "os.chown('/dev/shm', 1, 1)",
    "make a device": "os.mknod('/dev/shm/disk', 0o60600, os.makedev(8, 0))",
    "open a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
    "rename the machine": "socket.sethostname('intruder')",
    "run before others": "os.nice(-5)",
    "have more descriptors": "resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16385))",
}


# Where it is tried from inside, which takes its time: the common case, and those that are given something else. What
# holds there holds everywhere: all containers are given the same.
tried = only("epoll_loop", "io_uring_ring", "task_queue")

# Root, with `docker exec --user 0`, is as powerless: it has no capability, and the root is read-only for it too.
as_anybody = pytest.mark.parametrize("user", ["", "0"], ids=["as_itself", "as_root"])


def status_of(service: Service, pid: int | str) -> dict[str, str]:
    """/proc/PID/status by its keys."""
    text = service.beside("cat", f"/proc/{pid}/status")
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def in_cgroup(service: Service, *files: str) -> int:
    """The first of these files of the container's cgroup that there is: cgroup v2 and v1 call them by other names."""
    paths = " ".join(f"/sys/fs/cgroup/{file}" for file in files)
    command = f"for file in {paths}; do [ -f $file ] && exec cat $file; done; false"
    return int(service.beside("sh", "-c", command))


def python(service: Service, program: str, user: str = "") -> Any:
    """Run a program of Python in the container; what it printed, as JSON."""
    code, printed = service.run_in_it("python", "-c", program, user=user)
    assert code == 0, printed
    return json.loads(printed)


def still_serves(service: Service) -> bool:
    with connect(service.address) as client:
        return peers.exchange(client, b"still here") == b"STILL HERE"


# Who it is


def test_the_user_is_fixed_and_not_root(service: Service) -> None:
    assert service.container.attrs["Config"]["User"] == f"{USER}:{USER}"
    for pid in (1, service.pid, "self"):
        status = status_of(service, pid)
        assert status["Uid"].split() == [str(USER)] * 4
        assert status["Gid"].split() == [str(USER)] * 4


def test_no_process_has_a_capability_or_can_get_one(service: Service) -> None:
    host = service.container.attrs["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    profiles = [option for option in host["SecurityOpt"] if option.startswith("seccomp=")]
    assert [option for option in host["SecurityOpt"] if option not in profiles] == ["no-new-privileges:true"]
    # One model has a profile of its own, which denies more than the engine's; none goes without.
    assert len(profiles) == (service.model.slug == "io_uring_ring")
    assert all(json.loads(profile.partition("=")[2])["defaultAction"] == "SCMP_ACT_ERRNO" for profile in profiles)
    for pid in (1, service.pid, "self"):
        status = status_of(service, pid)
        assert {key: status[key] for key in NO_RIGHTS} == NO_RIGHTS


def test_it_shares_nothing_with_the_host_but_its_configs(service: Service) -> None:
    host = service.container.attrs["HostConfig"]
    assert "host" not in (host["NetworkMode"], host["PidMode"], host["IpcMode"], host["UTSMode"], host["UsernsMode"])
    assert not host["Devices"]
    mounts = service.container.attrs["Mounts"]
    assert [mount["Destination"] for mount in mounts if mount["Type"] == "bind"] == ["/etc/iolab"]
    assert not [mount for mount in mounts if mount["RW"]]


def test_each_is_given_the_same(project: Project, service: Service) -> None:
    host, common = (one.container.attrs["HostConfig"] for one in (service, project.service(MODELS["epoll_loop"])))
    own = {"Binds", "Mounts", "NanoCpus", "NetworkMode", "PortBindings", "SecurityOpt"}
    assert {key: value for key, value in host.items() if key not in own} == {
        key: value for key, value in common.items() if key not in own
    }


@tried
@as_anybody
def test_what_needs_a_capability_fails(service: Service, user: str) -> None:
    program = f"""
import json, os, resource, socket
failed = {{}}
for what, attempt in {PRIVILEGES!r}.items():
    try:
        eval(attempt)
        failed[what] = 0
    except OSError as error:
        failed[what] = error.errno
    except ValueError:  # setrlimit: "not allowed to raise maximum limit"
        failed[what] = {errno.EPERM}
print(json.dumps(failed))
"""
    assert python(service, program, user) == dict.fromkeys(PRIVILEGES, errno.EPERM)


# What it may write


@tried
@as_anybody
def test_nothing_can_be_changed(service: Service, user: str) -> None:
    assert service.container.attrs["HostConfig"]["ReadonlyRootfs"]
    # One `docker exec` for all: each line is the exit code of one attempt.
    attempts = "\n".join(f"( {attempt} ) >/dev/null 2>&1; echo $?" for attempt in TAMPERING.values())
    code, printed = service.run_in_it("bash", "-c", attempts, user=user)

    assert code == 0
    succeeded = [what for what, line in zip(TAMPERING, printed.split(), strict=True) if line == "0"]
    assert succeeded == []


# In each: what is in an image no setting of its container tells.
def test_no_file_or_folder_is_writable_but_shared_memory(service: Service) -> None:
    find = r"find / /etc/iolab /dev/shm -xdev -writable \( -type d -o -type f \) 2>/dev/null; true"

    assert service.beside("sh", "-c", find).split() == ["/dev/shm"]


# What it may use


@tried
def test_threads_and_processes_end_at_the_limit(service: Service) -> None:
    limit = service.container.attrs["HostConfig"]["PidsLimit"]
    assert limit == 512
    assert in_cgroup(service, "pids.max", "pids/pids.max") == limit
    program = f"""
import json, subprocess
sleepers, error = [], None
try:
    while len(sleepers) <= {limit}:
        sleepers.append(subprocess.Popen(["sleep", "60"]))
except OSError as refusal:
    error = refusal.errno
for sleeper in sleepers:
    sleeper.kill()
for sleeper in sleepers:
    sleeper.wait()
print(json.dumps([len(sleepers), error]))
"""
    started, error = python(service, program)

    assert error == errno.EAGAIN
    assert limit // 2 < started < limit
    assert still_serves(service)
    assert in_cgroup(service, "pids.current", "pids/pids.current") < limit // 2


@tried
def test_memory_ends_at_the_limit_for_who_takes_it(service: Service) -> None:
    host = service.container.attrs["HostConfig"]
    assert host["Memory"] == 512 * MEBIBYTE
    assert in_cgroup(service, "memory.max", "memory/memory.limit_in_bytes") == host["Memory"]
    # Swap, where there is some, counts on top.
    size = max(host["Memory"], host["MemorySwap"])
    code, printed = service.run_in_it("python", "-c", f"print(len(bytearray(b'x') * {size}))")

    assert (code, printed) == (137, "Killed\n")
    assert service.exit_code() is None
    assert still_serves(service)


@tried
def test_descriptors_end_at_the_limit(service: Service) -> None:
    ulimits = service.container.attrs["HostConfig"]["Ulimits"]
    assert ulimits == [{"Name": "nofile", "Soft": 16384, "Hard": 16384}]
    assert service.listening["limits"]["descriptors"] == 16384
    for pid in (1, service.pid):
        limits = service.beside("cat", f"/proc/{pid}/limits").splitlines()
        assert [line.split()[3:5] for line in limits if line.startswith("Max open files")] == [["16384", "16384"]]
    program = """
import json, os
taken = []
try:
    while len(taken) <= 16384:
        taken.append(os.dup(0))
except OSError as error:
    print(json.dumps([max(taken), error.errno]))
"""
    assert python(service, program) == [16383, errno.EMFILE]


@only("busy_poll")
def test_a_busy_poll_is_given_its_part_of_a_core_at_most(service: Service) -> None:
    assert service.container.attrs["HostConfig"]["NanoCpus"] == BUSY_POLL_CPUS * 1e9
    files = "/sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us"
    quota, period = service.beside("sh", "-c", f"cat {files} 2>/dev/null; true").split()
    assert int(quota) / int(period) == BUSY_POLL_CPUS

    # Whoever has the machine for itself sees it come near that; on a busy one it gets less.
    begun, before = time.monotonic(), service.cpu_seconds()
    for _ in for_a_while(2, step=0.5):
        assert still_serves(service)
    assert service.cpu_seconds() - before < 1.2 * BUSY_POLL_CPUS * (time.monotonic() - begun) + 0.1


# What is in it


@tried
def test_an_init_reaps_what_nobody_waits_for(service: Service) -> None:
    assert service.container.attrs["HostConfig"]["Init"] is True
    assert "init" in service.beside("cat", "/proc/1/comm")
    assert service.pid != 1
    orphan = service.beside("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!").strip()
    assert status_of(service, orphan)["PPid"] == "1"
    service.beside("sh", "-c", f"kill {orphan}")

    # One that nobody reaps stays, as a zombie.
    eventually(lambda: service.run_in_it("test", "-e", f"/proc/{orphan}")[0] == 1, "the dead process is gone")


def test_there_is_nothing_to_install_or_build_with(service: Service) -> None:
    tools = "pip pip3 uv uvx cc gcc g++ c++ clang as ld make cargo go"
    look = f"""
for tool in {tools}; do command -v $tool; done
for python in python /usr/bin/python3 /usr/local/bin/python3; do
    for module in pip uv; do $python -m $module --version 2>/dev/null; done
done
echo looked
"""
    assert service.run_in_it("sh", "-c", look)[1] == "looked\n"


def test_the_admin_port_is_not_published(service: Service) -> None:
    assert service.listening["admin_port"] == ADMIN_PORT
    assert service.page("/healthz")[0] == 200
    settings = service.container.attrs
    for ports in (settings["NetworkSettings"]["Ports"], settings["HostConfig"]["PortBindings"]):
        assert not ports.get(f"{ADMIN_PORT}/tcp")
    assert not settings["HostConfig"]["PublishAllPorts"]


def test_the_client_is_hardened_too(project: Project) -> None:
    program = (
        "import os, pathlib; status = pathlib.Path('/proc/self/status').read_text();"
        " writable = [path for path in ('/', '/tmp', '/etc/iolab', '/opt/iolab') if os.access(path, os.W_OK)];"
        " print(os.getuid(), writable, *(line for line in status.splitlines() if line.startswith(('CapEff', 'NoNew'))))"
    )
    printed = project.compose("run", "--rm", "--no-TTY", "--entrypoint", "python", "client", "-c", program)

    assert printed.split() == [str(USER), "[]", "CapEff:", NO_RIGHTS["CapEff"], "NoNewPrivs:", "1"]
