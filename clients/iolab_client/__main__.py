"""The command `iolab-client`."""

from __future__ import annotations

if __name__ == "__main__":
    from iolab.safe_path import leave_out_current_directory

    leave_out_current_directory()

import sys

import click

from iolab.program import Program

try:
    from iolab_client.commands import (
        check,
        choose,
        compare,
        experiment,
        load,
        metrics,
        path,
        playground,
        report,
        threads,
        top,
        trace,
        try_,
    )
except ModuleNotFoundError as error:
    library = (error.name or "").partition(".")[0]
    if library in ("", "iolab", "iolab_client"):
        raise
    sys.exit(f"iolab-client: {library} is not installed; pip install 'iolab[client]'")

COMMANDS = (try_, check, path, load, compare, report, experiment, choose, threads, metrics, top, trace, playground)


@click.group(cls=Program, name="iolab-client", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="iolab")
def main() -> None:
    """Talk to the models, check their contract, see what they wait in.

    A MODEL is named as in `epoll_loop` or `epoll-loop`; HOST:PORT names any server. Exit codes: 0 passed,
    1 failed, 2 usage or a bad config, 99 threshold missed.

    A TIME is 500ms, 10s or 2m, from 1us to 24h (a warmup may be 0); a RATE is 500 or 10k a second, from 0.001 to 1G; a
    NUMBER is 100 or 10k, from 1 to 1G; a SIZE is 64 or 64KiB, from 1 byte to 64MiB; CPUS are 0,2-3, from 0 to 8191.
    """


for module in COMMANDS:
    main.add_command(module.command)

if __name__ == "__main__":
    main()
