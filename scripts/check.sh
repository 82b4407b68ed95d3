#!/usr/bin/env bash
# make check: lint, format, types, shell. All of them run, so that one round shows everything.
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
setup_venv
unlock
PATH=$venv/bin:$PATH
failed=()
run() { say "$*"; "$@" || failed+=("$1 ${2:-}"); }
run ruff check .
run ruff format --check .
run mypy --strict services clients tests scripts
run lint-imports --no-logo
run shellcheck --external-sources scripts/*.sh .ci/run
run "$venv/bin/iolab" check-config
[ ${#failed[@]} = 0 ] || fail "failed: ${failed[*]}" "'.venv/bin/ruff check --fix' and '.venv/bin/ruff format' repair much of it"
