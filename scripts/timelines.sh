#!/usr/bin/env bash
# make timelines: records every model anew, and draws the pictures of docs/. Arguments are models; all, if none is named.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
setup_venv
setup_configs none
setup_strace
unlock
exec "$venv/bin/python" scripts/timelines.py "$@"
