#!/usr/bin/env bash
# make bench: sets up, builds what is measured, and compares every model, briefly. Arguments go to `iolab-client compare`.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
setup_venv
find_engine
setup_configs "$engine"
if [ "$engine" = docker ]; then
    setup_docker
    build_images client measure
    export IOLAB_COMPOSE="${compose[*]}"
    export_docker_host
else
    say "no Docker ($no_engine): measuring the models as plain processes"
fi
unlock
exec "$venv/bin/iolab-client" compare --short "$@"
