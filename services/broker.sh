#!/usr/bin/env bash
# Valkey for one project: in memory only, with a password that is made at the first start and kept while it is mounted.
set -euo pipefail
umask 077

password=/run/broker/password
if [ ! -s "$password" ]; then
    head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$password.new"
    mv "$password.new" "$password"
fi
# On stdin: neither a file of the image nor a command line shows it. Full, it refuses, rather than forget a task.
exec valkey-server - <<END
bind * -::*
requirepass $(cat "$password")
save ""
appendonly no
maxmemory ${BROKER_MEMORY:-128mb}
maxmemory-policy noeviction
END
