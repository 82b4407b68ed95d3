#!/usr/bin/env bash
# Valkey for one project: in memory only, with the password in a file that is given, or else with one that is made at the
# first start and kept in a mounted volume.
set -euo pipefail
umask 077

password=${IOLAB_BROKER_PASSWORD_FILE:-/run/broker/password}
if [ ! -s "$password" ]; then
    head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$password.new"
    mv "$password.new" "$password"
fi
# The configuration comes on stdin, so that no file of the image and no command line shows the password. A full broker
# refuses tasks rather than drop one.
exec valkey-server - <<END
bind * -::*
requirepass $(cat "$password")
save ""
appendonly no
maxmemory ${BROKER_MEMORY:-128mb}
maxmemory-policy noeviction
END
