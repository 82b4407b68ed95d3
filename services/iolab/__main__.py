"""The command `iolab`: serve one model, run them all as plain processes, check the configs."""

from __future__ import annotations

if __name__ == "__main__":
    from iolab.safe_path import leave_out_current_directory

    leave_out_current_directory()

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from iolab.program import Program, WholeNumber

# The configs folder of a checkout, used if no other is named.
CONFIGS = Path("configs")

configs_option = click.option(
    "--configs",
    "folder",
    envvar="IOLAB_CONFIGS",
    type=click.Path(path_type=Path),
    callback=lambda _context, _option, given: given or (CONFIGS if CONFIGS.is_dir() else None),
    help="Folder of defaults.yaml and models/; ./configs if there is one, else the built-in defaults.",
)


@click.group(cls=Program, name="iolab", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="iolab")
def main() -> None:
    """Every way a Linux server can wait for its clients, side by side behind one protocol."""
    from iolab.server.surroundings import put_right

    put_right()


@main.command()
@click.argument("slug", metavar="MODEL")
@configs_option
@click.option("--config", "file", type=click.Path(path_type=Path), help="A YAML file in place of the model's own.")
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="KEY=VALUE",
    envvar="IOLAB_SET",
    help="A setting that overrides the files: --set backlog=16 --set work.wait_ms=10.",
)
@click.option("--host", help="The address to listen on.")
@click.option("--port", type=WholeNumber(0, 65535), help="The port; 0 lets the kernel pick.")
@click.option("--admin-port", type=WholeNumber(0, 65535), help="The port of /metrics, /threads and /healthz.")
@click.option(
    "--hands-on/--no-hands-on",
    envvar="IOLAB_HANDS_ON",
    default=None,
    help="The admin port takes PUT /work and /kill too.",
)
def serve(
    slug: str,
    folder: Path | None,
    file: Path | None,
    given: tuple[str, ...],
    host: str | None,
    port: int | None,
    admin_port: int | None,
    hands_on: bool | None,
) -> None:
    """Run MODEL until SIGTERM, SIGINT, SIGHUP or SIGQUIT.

    configs/ lists the settings with their meaning and bounds. $IOLAB_SET may hold several, separated by blanks.
    """
    from iolab.server import surroundings

    surroundings.exit_at_signals()
    from iolab.registry import find

    try:
        model = find(slug)
    except KeyError as error:
        raise click.UsageError(error.args[0]) from None
    if reason := model.not_installed():
        end(ImportError(reason), 1)
    model.patch()
    from iolab import configs, settings

    try:
        with surroundings.handlers_run_in_time():
            values = configs.load(model, folder, file, given)
        configs.check_environment(values, model, os.environ)
        if port is None:
            configs.check_compose(values, model, file or configs.file_of(model, folder), os.environ)
    except settings.BadSetting as error:
        end(error, 2)
    surroundings.close_inherited_descriptors()
    from iolab.server.ending import crash, leave
    from iolab.server.errors import CannotServe
    from iolab.server.stop import block_signals

    # From here on a signal stays pending until a thread waits for it.
    block_signals()
    from iolab.kernel.threads import NoThread
    from iolab.run.serve import StartError, run

    try:
        surroundings.check_limits(model, values)
        code = run(model, configs.override(values, host=host, port=port, admin_port=admin_port, hands_on=hands_on))
    except settings.BadSetting as error:
        end(error, 2)
    except NoThread as error:
        end(CannotServe(f"{error}; raise the limit of threads (pids_limit) or of memory (ulimit -v)"), 1)
    except (CannotServe, StartError) as error:
        end(error, 1)
    except Exception as bug:
        crash(bug)
    leave(code)


@main.command()
@click.argument("slugs", nargs=-1, metavar="[MODEL]...")
@configs_option
@click.option("--detach", is_flag=True, help="Return when all of them listen; `iolab down` stops them.")
def up(slugs: tuple[str, ...], folder: Path | None, detach: bool) -> None:
    """Run the models as plain processes of this machine; if none is named, all of them and the `playground`."""
    from iolab.configs import load_all
    from iolab.run import launcher
    from iolab.server.ending import complain
    from iolab.server.stop import block_signals
    from iolab.settings import BadSetting

    try:
        settings = load_all(folder)
        # Blocked before anything is started, so that no signal can leave a server behind.
        block_signals()
        servers, reasons = launcher.start(slugs, settings, folder, detach=detach)
        lines = [launcher.table(servers), *(f"{slug} is unavailable: {reason}" for slug, reason in reasons.items())]
        if detach:
            click.echo("\n".join(lines))
        else:
            complain("\n".join([*lines, "Ctrl-C stops them.", ""]))
            sys.exit(launcher.run_until_stopped(servers))
    except KeyError as error:
        raise click.UsageError(error.args[0]) from None
    except BadSetting as error:
        end(error, 2)
    except launcher.LaunchError as error:
        end(error, 1)


@main.command()
def down() -> None:
    """Stop what `iolab up` started."""
    from iolab.run import launcher, run_files
    from iolab.server.stop import block_signals

    block_signals()
    try:
        stopped = launcher.stop()
    except launcher.LaunchError as error:
        end(error, 1)
    if stopped:
        click.echo(f"stopped {', '.join(server.model for server in stopped)}")
    else:
        click.echo(f"nothing was running; looked in {', '.join(map(str, run_files.places()))}")


@main.command()
@click.option("--script", default="answer", show_default=True, help="What to do on a connection: docs/misbehave.md.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=WholeNumber(0, 65535), default=8020, show_default=True, help="0: the kernel picks.")
@click.option("--admin-port", type=WholeNumber(0, 65535), default=0, show_default=True, help="It takes scripts, too.")
@click.option("--seed", type=WholeNumber(0, 2**32 - 1), help="Seed of random choices; else drawn and logged.")
@click.option("--message", "message_bytes", type=WholeNumber(1, 2**30), metavar="BYTES", help="A message's size.")
def misbehave(script: str, host: str, port: int, admin_port: int, seed: int | None, message_bytes: int | None) -> None:
    """Misbehave on command: answer, wait, drip, corrupt, cut, reset and more, until SIGTERM.

    For tests of clients: --script 'answer 2; wait 100ms; reset'. Without --message, a message is what one read takes.
    """
    from iolab.server import surroundings

    surroundings.exit_at_signals()
    from iolab.configs import load, override
    from iolab.kernel.threads import NoThread
    from iolab.misbehave.grammar import BadScript
    from iolab.misbehave.server import Order, run
    from iolab.registry import MISBEHAVE
    from iolab.run.serve import StartError
    from iolab.server.ending import crash, leave
    from iolab.server.errors import CannotServe
    from iolab.server.stop import block_signals
    from iolab.settings import BadSetting

    surroundings.close_inherited_descriptors()
    block_signals()
    try:
        settings = override(load(MISBEHAVE, None), host=host, port=port, admin_port=admin_port)
        surroundings.check_limits(MISBEHAVE, settings)
        code = run(settings, Order(script=script, seed=seed, message_bytes=message_bytes))
    except (BadScript, BadSetting) as error:
        end(error, 2)
    except (CannotServe, NoThread, StartError) as error:
        end(error, 1)
    except Exception as bug:
        crash(bug)
    leave(code)


@main.command()
@configs_option
@click.option("--dotenv", is_flag=True, help="Print the ports as lines for the .env that docker-compose.yml reads.")
def check_config(folder: Path | None, dotenv: bool) -> None:
    """Check every YAML file; exit 2 with one line for the first one that cannot hold."""
    from iolab import configs, settings
    from iolab.registry import MODELS
    from iolab.server.ending import complain

    try:
        values = configs.load_all(folder)
        playground = configs.load_playground(folder)
    except settings.BadSetting as error:
        end(error, 2)
    if dotenv:
        ports = {model.environment_prefix: values[slug].port for slug, model in MODELS.items()}
        ports["PLAYGROUND"] = playground.port
        click.echo("\n".join(f"{prefix}_PORT={port}" for prefix, port in ports.items()))
    else:
        files = {configs.file_of(MODELS[slug], folder): values[slug].port for slug in values}
        files[(folder or Path("the built-in")) / "playground.yaml"] = playground.port
        complain("".join(f"{file}: port {port}, good\n" for file, port in files.items()))


def end(error: Exception, code: int) -> NoReturn:
    """Print the error in one line, and exit."""
    from iolab.server.ending import complain, leave

    complain(f"iolab: {error}\n")
    leave(code)


if __name__ == "__main__":
    main()
