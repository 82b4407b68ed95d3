"""The command `iolab-client`."""


def main() -> None:
    """Run the command."""
    raise SystemExit("iolab-client: no command yet")
