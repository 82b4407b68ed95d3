#!/usr/bin/env bash
# make stack: deploy/stack.yml, anew from docker-compose.yml, the registry and the configs.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
setup_venv
unlock
stack=$("$venv/bin/python" scripts/stack.py)
printf '%s\n' "$stack" >deploy/stack.yml
say "wrote deploy/stack.yml"
