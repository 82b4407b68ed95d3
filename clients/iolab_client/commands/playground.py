"""`playground`: the page in the browser."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click
import msgspec

from iolab import configs, log
from iolab.kernel.threads import name_thread
from iolab.program import WholeNumber
from iolab.server import surroundings
from iolab.settings import BadSetting
from iolab_client.servers.targets import BadConfig


@click.command("playground")
@click.option("--port", type=WholeNumber(1, 65535), help="The port; else that of playground.yaml, 8080.")
def command(port: int | None) -> None:
    """Serve the page that shows all models as they run, on loopback, until SIGTERM.

    Its limits are in configs/playground.yaml, or in the folder that IOLAB_CONFIGS names.
    """
    # Not with every command: it takes a while to import.
    from iolab_client.playground.app import Playground, serve
    from iolab_client.playground.lessons import load_lessons

    surroundings.put_right()
    name_thread("playground")
    folder = Path(os.environ.get("IOLAB_CONFIGS") or "configs")
    chosen = folder if folder.is_dir() or "IOLAB_CONFIGS" in os.environ else None
    try:
        settings = configs.load_playground(chosen)
        lessons = load_lessons(chosen)
        if port is None:
            configs.check_published(settings.port, folder / "playground.yaml", "PLAYGROUND", os.environ)
    except BadSetting as error:
        raise BadConfig(str(error)) from None
    settings = msgspec.structs.replace(settings, port=port or settings.port)
    # In its container every address is the container's own; the world sees the one that is published, on loopback.
    everywhere = os.environ.get("IOLAB_IN_COMPOSE") == "1"
    # What the lessons link to; it is beside the configs of a checkout.
    documents = Path(os.environ.get("IOLAB_DOCS") or folder.absolute().parent / "docs")
    log.configure("info", "playground")
    try:
        asyncio.run(serve(Playground(settings, lessons, documents), everywhere=everywhere))
    except OSError as error:
        raise click.ClickException(
            f"{settings.host}:{settings.port}: {error.strerror}; stop what listens there, or name another port in "
            f"{folder / 'playground.yaml'}"
        ) from None
