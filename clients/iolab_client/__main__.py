"""The command `iolab-client`."""

from __future__ import annotations

if __name__ == "__main__":
    from iolab.safe_path import leave_out_current_directory

    leave_out_current_directory()

import click

from iolab_client.commands import check, compare, load, metrics, report, threads, top, try_
from iolab_client.terminal import streams

COMMANDS = (try_, check, load, compare, report, threads, metrics, top)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="iolab")
def main() -> None:
    """Talk to the models, check their contract, see what they wait in.

    A MODEL is named as in `epoll_loop` or `epoll-loop`; HOST:PORT names any server. Exit codes: 0 passed,
    1 failed, 2 usage or a bad config, 99 threshold missed.
    """


for module in COMMANDS:
    main.add_command(module.command)


def run() -> None:
    """The program."""
    with streams.prepared():
        main()


if __name__ == "__main__":
    run()
