#!/usr/bin/env bash
# make test: sets up, builds the images, runs every suite. Arguments go to pytest.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
setup_venv
find_engine
if [ "$engine" = docker ]; then
    setup_docker
    build_images client image measure misbehave trace
    export IOLAB_COMPOSE="${compose[*]}"
    export_docker_host
else
    say "the Docker parts of the suites will be skipped: $no_engine"
fi
unlock
# A test mostly waits for its server: eight at once keep two cores busy. More of them only wait for each other.
exec "$venv/bin/pytest" tests --numprocesses 8 --dist loadgroup "$@"
