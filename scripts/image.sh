#!/usr/bin/env bash
# make image: sets up and builds the image `iolab`, which has every model: docker run --publish 8000:8000 iolab
# shellcheck source=scripts/setup.sh
. "$(dirname "$0")/setup.sh"

lock
find_engine
[ "$engine" = docker ] || fail "there is no image without Docker: $no_engine" "install Docker; or 'pip install iolab[models]' has all models, too"
setup_docker
build_images image -- iolab
unlock
say "built the image iolab; try: docker run --rm --publish 127.0.0.1:8000:8000 iolab"
