#!/usr/bin/env bash
# make down: stops what `make up` started and leaves no container, network, volume or process. The images stay.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

if [ -x "$venv/bin/iolab" ]; then
    "$venv/bin/iolab" down
fi
find_engine
if [ "$engine" = docker ]; then
    lock
    setup_compose
    unlock
    "${compose[@]}" --profile '*' down --volumes --remove-orphans
    # What a comparison left that was killed before it had tidied up.
    if [ -n "$(docker ps --all --quiet --filter label=com.docker.compose.project=iolab-compare)" ]; then
        "${compose[@]}" --project-name iolab-compare --profile '*' down --volumes --remove-orphans
    fi
    say "nothing is left running; the images stay for the next 'make up' ('make clean' removes them)"
fi
