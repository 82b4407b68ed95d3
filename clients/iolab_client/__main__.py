"""The command `iolab-client`."""

from __future__ import annotations

if __name__ == "__main__":
    from iolab.safe_path import leave_out_current_directory

    leave_out_current_directory()

import keyword
import os
from importlib import import_module

import click

from iolab.program import Program

# Each in the module of its name.
COMMANDS = (
    "check",
    "choose",
    "compare",
    "experiment",
    "load",
    "metrics",
    "path",
    "playground",
    "report",
    "threads",
    "top",
    "trace",
    "try",
)


class CommandsOnDemand(Program):
    """Imports a command when it is asked for: some import much that the others do not need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, if there is one. Raises click.ClickException if it needs what is not installed."""
        if cmd_name not in COMMANDS:
            # The names that it could have been are looked for among those that are known by now.
            self.commands = dict.fromkeys(COMMANDS, click.Command(None))
            return None
        module = f"iolab_client.commands.{cmd_name}{'_' if keyword.iskeyword(cmd_name) else ''}"
        try:
            command: click.Command = import_module(module).command
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            if library in ("", "iolab", "iolab_client"):
                raise
            raise click.ClickException(f"{library} is not installed; pip install 'iolab[client]'") from None
        return command


@click.group(cls=CommandsOnDemand, name="iolab-client", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="iolab")
def main() -> None:
    """Talk to the models, check their contract, see what they wait in.

    A MODEL is named as in `epoll_loop` or `epoll-loop`; HOST:PORT names any server. Exit codes: 0 passed,
    1 failed, 2 usage or a bad config, 99 threshold missed.

    A TIME is 500ms, 10s or 2m, from 1us to 24h (a warmup may be 0); a RATE is 500 or 10k a second, from 0.001 to 1G; a
    NUMBER is 100 or 10k, from 1 to 1G; a SIZE is 64 or 64KiB, from 1 byte to 64MiB; CPUS are 0,2-3, from 0 to 8191.
    """
    # In a notebook it names what draws there, and without that matplotlib fails. None of our plots is for a screen.
    os.environ.pop("MPLBACKEND", None)


if __name__ == "__main__":
    main()
