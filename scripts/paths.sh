#!/usr/bin/env bash
# make paths: examines what Debian has that may stand between two sockets, and writes docs/paths.md anew.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
setup_venv
setup_between
find_engine
[ "$engine" = docker ] || fail "the page is also about Docker's own paths: $no_engine" "install Docker, or run it where it is"
[ "$(id -u)" = 0 ] || fail "only root may listen in a container's network namespace" "run it as root: sudo make paths"
setup_docker
unlock
"$venv/bin/python" -m scripts.paths "$@"
