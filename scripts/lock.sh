#!/usr/bin/env bash
# make lock: pins what pyproject.toml asks for, with hashes, for every Python and platform at once.
# ARGS=--upgrade takes newer versions; without it only what pyproject.toml no longer allows changes.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
setup_uv
say "writing requirements.lock from pyproject.toml"
uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --output-file requirements.lock "$@"
