#!/bin/sh
# Attaches strace to every process in its PID namespace, which is that of a server, until SIGTERM. On stderr who is there,
# as `thread PROCESS THREAD NAME`, and what strace says; on stdout, at the end, the record. The arguments are strace's.
set -eu

# In memory: whoever passes each line on at once takes processor time from the server.
record=/record/strace
targets=
for folder in /proc/[0-9]*; do
    process=${folder#/proc/}
    # The first one is the init that Docker gives each container; the other is this script.
    [ "$process" != 1 ] && [ "$process" != $$ ] || continue
    for thread in "$folder"/task/*; do
        # One that has ended meanwhile has no name.
        { read -r name <"$thread/comm"; } 2>/dev/null || continue
        echo "thread $process ${thread##*/} $name" >&2
    done
    targets="$targets -p $process"
done
# shellcheck disable=SC2086  # one word each
strace "$@" -o "$record" $targets &
tracer=$!
trap 'kill -TERM $tracer' TERM
status=0
wait $tracer || status=$?
# The signal ends the wait, and not the tracer, which lets go of everyone first.
while kill -0 $tracer 2>/dev/null; do
    status=0
    wait $tracer || status=$?
done
cat "$record"
exit $status
