#!/bin/sh
# Attaches strace to every process in its PID namespace, which is that of a server, until SIGTERM. stderr gets the list of
# threads, as `thread PROCESS THREAD NAME`, and strace's messages; stdout gets the record at the end. The arguments are
# strace's.
set -eu

# In memory: passing each line on at once would take processor time from the server.
record=/record/strace
targets=
for folder in /proc/[0-9]*; do
    process=${folder#/proc/}
    # Process 1 is the init that Docker gives each container; the other is this script.
    [ "$process" != 1 ] && [ "$process" != $$ ] || continue
    for thread in "$folder"/task/*; do
        # A thread that has ended meanwhile has no name.
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
# The signal ends the wait, but strace first detaches from all threads.
while kill -0 $tracer 2>/dev/null; do
    status=0
    wait $tracer || status=$?
done
cat "$record"
exit $status
