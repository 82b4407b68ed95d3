#!/usr/bin/env bash
# make claims: puts every claim on trial and writes docs/claims.md, with its data and plots in docs/results/claims.
# Arguments go to `iolab-client experiment`.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

setup_measuring
exec "$venv/bin/iolab-client" experiment all --markdown docs/claims.md "$@"
