#!/usr/bin/env bash
# make clean: make down, then removes what the set-up made: images, .venv, .tools. Your .env stays.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

scripts/down.sh
find_engine
if [ "$engine" = docker ]; then
    say "removing the images of iolab"
    docker image ls --quiet --filter label=org.opencontainers.image.title=iolab | sort -u | xargs --no-run-if-empty docker image rm --force >/dev/null ||
        say "an image that a container still uses stays"
fi
say "removing .venv and .tools"
rm -rf "$venv" "$tools"
