#!/bin/sh
# The entry point of the image `iolab`, which has every model. Each server in it listens on port 8000 of every address,
# with its admin port on 9100. Without arguments $IOLAB_SCRIPT and $IOLAB_MODEL choose what runs, because not every CI
# file can pass a command to a service.
set -eu
if [ $# = 0 ] && [ -n "${IOLAB_SCRIPT:-}" ]; then
    set -- misbehave --script "$IOLAB_SCRIPT"
elif [ $# = 0 ]; then
    set -- serve "${IOLAB_MODEL:-epoll_loop}"
fi
case $1 in
serve | misbehave)
    command=$1
    shift
    set -- "$command" --host :: --port 8000 --admin-port 9100 "$@"
    ;;
esac
exec iolab "$@"
