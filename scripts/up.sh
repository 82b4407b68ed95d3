#!/usr/bin/env bash
# make up: every model in a container, or as a plain process where there is no engine.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
setup_venv
find_engine
setup_configs "$engine"
if [ "$engine" = none ]; then
    unlock
    say "no Docker ($no_engine): running the models as plain processes; 'make down' stops them"
    exec "$venv/bin/iolab" up --detach
fi
setup_docker
build_images client
unlock
# A measurement that was cut short leaves models paused; up does not touch those.
paused=$("${compose[@]}" ps --services --status paused)
# shellcheck disable=SC2086
[ -z "$paused" ] || "${compose[@]}" unpause $paused
say "starting one container per model and waiting until each is healthy"
"${compose[@]}" up --detach --wait --wait-timeout 120 --remove-orphans || say "Compose stopped waiting; what came of it:"
if [ "${DOCKER_CONFIG:-}" = "$private_docker" ]; then private=--private-compose; fi
IOLAB_COMPOSE="${compose[*]}" exec "$venv/bin/python" scripts/status.py ${private:+"$private"}
