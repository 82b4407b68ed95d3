#!/usr/bin/env bash
# make bench: sets up, builds what is measured, and compares every model, briefly. Arguments go to `iolab-client compare`.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

setup_measuring
exec "$venv/bin/iolab-client" compare --short "$@"
