#!/usr/bin/env bash
# make screenshots: the pictures of the playground in docs/playground/, taken of one that runs. ARGS: its address.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
setup_venv
unlock
exec "$venv/bin/python" scripts/screenshots.py "$@"
