# shellcheck shell=bash
#
# Functions that the scripts share: printing, packages, a private Postgres, and cleaning up. A bash script that has set
# `set -euo pipefail` sources this file:
#
#     source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
#
#     step|say|warn TEXT, fail TEXT [CODE]     print on stderr
#     need_swift, need_packages PKG...         find or install what a script needs
#     make_temp_dir                            set TEMP_DIR, a new directory that is removed at the end
#     run COMMAND...                           run a long command, which a signal to the script ends as well
#     start_postgres DIR [durable]             set PG_URL, PG_PORT, PG_DIR and PG_BIN
#     stop_postgres [MODE [DIR]]               stop the same server, or another one that start_postgres started
#     free_port                                print a TCP port of 127.0.0.1 on which nothing listens
#     at_exit COMMAND...                       run a command at the end, last one first, however the script ends
#     keep_running                             leave everything as it is at the end

# shellcheck disable=SC2034 # The scripts that source this file use some of the variables.
REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# --- Printing

if [[ -t 2 && -z ${NO_COLOR-} && ${TERM-dumb} != dumb ]]; then
    BOLD=$'\e[1m' RED=$'\e[31m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
    BOLD='' RED='' YELLOW='' PLAIN=''
fi

step() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN" >&2; }
say() { printf '    %s\n' "$*" >&2; }
warn() { printf '%swarning:%s %s\n' "$YELLOW" "$PLAIN" "$*" >&2; }

# The code is one of sysexits.h if one fits: 64 for wrong usage, 69 if something needed is missing.
fail() {
    printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2
    exit "${2:-1}"
}

# --- The end

# All processes that `run` and `start_postgres` start have this in their environment, and so have their descendants. By
# this mark the script recognizes its own processes, wherever they went, and ends no others.
RUN_MARK=BREAKWATER_RUN=$$-$RANDOM$RANDOM
AT_EXIT=()
TEMP_DIRS=()
CHILD=''
CHILD_SECONDS=5 # How long a command under `run` may take to end after a signal.
KEEP=''

at_exit() { AT_EXIT+=("$(printf '%q ' "$@")"); }
keep_running() { KEEP=1; }

make_temp_dir() {
    TEMP_DIR=$(mktemp -d "${TMPDIR:-/tmp}/breakwater.XXXXXXXX")
    TEMP_DIR=$(cd "$TEMP_DIR" && pwd)
    TEMP_DIRS+=("$TEMP_DIR")
    # The account as which root runs Postgres must be able to reach its own directory.
    ((EUID != 0)) || chmod 711 "$TEMP_DIR"
}

# Bash acts on a signal only after the command in the foreground has ended, so the command runs in the background. There
# bash makes it ignore SIGINT, and `env` undoes that.
run() {
    local code=0
    env --default-signal=INT,QUIT "$RUN_MARK" "$@" </dev/null &
    CHILD=$!
    wait "$CHILD" || code=$?
    CHILD=''
    return "$code"
}

end_child() {
    [[ -n $CHILD ]] || return 0
    kill -INT "$CHILD" 2>/dev/null
    for ((i = 0; i < CHILD_SECONDS * 10; i++)); do
        kill -0 "$CHILD" 2>/dev/null || return 0
        sleep 0.1
    done
}

marked_processes() { grep -lzsxF -- "$RUN_MARK" /proc/[0-9]*/environ | cut -d / -f 3; }

end_leftovers() {
    local signal pids
    export -n "${RUN_MARK%%=*}" # Where a script exports it, what looks for it here would find itself.
    for signal in TERM KILL; do
        for ((i = 0; i < 20; i++)); do
            mapfile -t pids < <(marked_processes)
            ((${#pids[@]})) || return 0
            ((i > 0)) || kill -"$signal" "${pids[@]}" 2>/dev/null
            sleep 0.1
        done
    done
    warn "these processes did not end: ${pids[*]}"
}

clean_up() {
    local code=$? i
    trap '' INT TERM HUP
    set +e
    end_child
    if [[ -z $KEEP ]]; then
        for ((i = ${#AT_EXIT[@]} - 1; i >= 0; i--)); do eval "${AT_EXIT[i]}"; done
        end_leftovers
        ((${#TEMP_DIRS[@]} == 0)) || rm -rf -- "${TEMP_DIRS[@]}"
    fi
    exit "$code"
}

# A second signal must not interrupt the cleaning up.
interrupted() {
    trap '' INT TERM HUP
    KEEP=''
    printf '\n' >&2
    say "interrupted: ending what was started"
    exit "$1"
}

trap clean_up EXIT
trap 'interrupted 129' HUP
trap 'interrupted 130' INT
trap 'interrupted 143' TERM

# --- Packages

# The packages for building, and for starting a Postgres. Either package satisfies `a|b`, and `a` is installed.
BUILD_PACKAGES=(
    ca-certificates git
    'pkg-config|pkgconf' libpq-dev 'libcurl4-openssl-dev|libcurl4-gnutls-dev|libcurl4-nss-dev'
)

need_swift() {
    local dir
    command -v swift >/dev/null && return
    for dir in "${HOME-}/.local/share/swiftly/bin" /opt/swift/usr/bin /usr/local/swift/usr/bin; do
        if [[ -x $dir/swift ]]; then
            export PATH=$dir:$PATH
            return
        fi
    done
    fail "swift was not found. Install Swift 6.3 or later (https://www.swift.org/install/linux/) and put it on the PATH." 69
}

need_postgres() { pg_bindir >/dev/null || need_packages postgresql; }

package_is_installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

need_packages() {
    local wanted name missing=()
    [[ ${BREAKWATER_PACKAGES-} != skip ]] || return 0
    for wanted in "$@"; do
        for name in ${wanted//|/ }; do
            package_is_installed "$name" && continue 2
        done
        missing+=("${wanted%%|*}")
    done
    ((${#missing[@]})) || return 0

    local as_root=()
    if [[ -z $(command -v dpkg-query) || -z $(command -v apt-get) ]]; then
        fail "no apt here. Install the equivalents of these, then set BREAKWATER_PACKAGES=skip: ${missing[*]}" 69
    elif ((EUID != 0)); then
        [[ -n $(command -v sudo) ]] || fail "packages are missing, and there is no sudo. As root: apt-get install ${missing[*]}" 69
        as_root=(sudo)
        # Without a terminal, no password can be typed.
        if [[ ${CI-} == true ]] || ! (: </dev/tty) 2>/dev/null; then as_root+=(-n); fi
    fi
    step "Installing ${missing[*]}"
    "${as_root[@]}" bash -c "$(declare -f install_as_root); install_as_root \"\$@\"" - "${missing[@]}" >&2 ||
        fail "could not install them. As root: apt-get install ${missing[*]}" 69
}

# Installs packages only for their files: it creates no Postgres cluster and starts no service, now or at the next boot.
# It removes nothing, and leaves a service alone that was there before. It runs as root and on its own, so it may call
# no other function.
install_as_root() {
    local policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.d package service
    local undo=':' services=''
    set -eu
    exec 9>/run/lock/breakwater-packages.lock
    flock 9
    for package in "$@"; do
        case $package in
        postgresql | postgresql-[0-9]*)
            undo+="; rm -f $clusters/breakwater.conf; rmdir --ignore-fail-on-non-empty $clusters"
            mkdir -p "$clusters"
            echo 'create_main_cluster = false' >"$clusters/breakwater.conf"
            ;;
        nginx | nginx-*) [ -e /usr/sbin/nginx ] || services="$services nginx" ;;
        prometheus) [ -e /usr/bin/prometheus ] || services="$services prometheus" ;;
        pgbouncer) [ -e /usr/sbin/pgbouncer ] || services="$services pgbouncer" ;;
        esac
    done
    if [ -n "$services" ] && [ ! -e "$policy" ]; then
        undo+="; rm -f $policy"
        # This $1 belongs to the policy script.
        printf '%s\n' '#!/bin/sh' "case \"$services \" in *\" \$1 \"*) exit 101 ;; esac" >"$policy"
        chmod 755 "$policy"
    fi
    # shellcheck disable=SC2064 # As it is now: the variable is gone by then.
    trap "$undo" EXIT
    # The source that cannot be reached may not be needed.
    apt-get update -q || echo 'warning: apt-get update failed; trying with what is known' >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --no-remove \
        -o DPkg::Lock::Timeout=300 "$@" </dev/null
    if [ -d /run/systemd/system ]; then
        for service in $services; do systemctl --quiet disable "$service.service"; done
    fi
}

# --- Postgres

# Prints the directory with the programs of the newest installed server, or BREAKWATER_PG_BIN if that is set.
pg_bindir() {
    local newest
    if [[ -n ${BREAKWATER_PG_BIN-} ]]; then
        [[ -x $BREAKWATER_PG_BIN/postgres ]] || fail "BREAKWATER_PG_BIN=$BREAKWATER_PG_BIN holds no postgres." 69
        echo "$BREAKWATER_PG_BIN"
        return
    fi
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
    [[ -x $newest ]] && dirname "$newest"
}

# The port is below the range from which the kernel takes ports for outgoing connections.
free_port() {
    local port
    while true; do
        port=$((20000 + (RANDOM << 15 | RANDOM) % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# A server refuses to run as root, so root runs it as an ordinary account.
as_postgres() {
    local account=postgres
    if ((EUID != 0)); then
        (cd / && env "$RUN_MARK" LC_ALL=C.UTF-8 "$@")
        return
    fi
    id "$account" >/dev/null 2>&1 || account=nobody
    (cd / && setpriv --reuid="$account" --regid="$(id -g "$account")" --init-groups \
        env "$RUN_MARK" LC_ALL=C.UTF-8 "$@")
}

# Creates a cluster in DIR, which is a new directory or an empty one of its own. The server listens on 127.0.0.1 and on
# a socket in DIR. Its superuser is `postgres`, without a password. Without `durable` it does not sync to disk, which
# makes a difference only if the machine stops. It logs to DIR/log.
start_postgres() {
    local durability=${2:-fast} sync_options=() attempt
    PG_BIN=$(pg_bindir) || fail "no Postgres server is installed: apt-get install postgresql, or set BREAKWATER_PG_BIN." 69
    step "Starting a private Postgres ($("$PG_BIN/postgres" --version | cut -d ' ' -f 3))"
    # Nothing started from here may find the developer's own database by default.
    # shellcheck disable=SC2046 # One name a word.
    unset DATABASE_URL $(compgen -e | grep -E '^PG[A-Z]+$' || true)

    mkdir -p "$1"
    PG_DIR=$(cd "$1" && pwd)
    if ((EUID == 0)); then
        chown "$(as_postgres id -un):" "$PG_DIR"
        as_postgres test -w "$PG_DIR" ||
            fail "the account $(as_postgres id -un), which is to run Postgres, cannot reach $PG_DIR: set TMPDIR to a directory that it can." 69
    fi
    [[ $durability == durable ]] || sync_options=(--no-sync)
    as_postgres "$PG_BIN/initdb" "${sync_options[@]}" --auth=trust --username=postgres --encoding=UTF8 \
        --locale=C.UTF-8 --pgdata="$PG_DIR/data" >"$PG_DIR/log" 2>&1 ||
        fail "initdb failed:"$'\n'"$(tail -n 20 "$PG_DIR/log")"
    postgres_settings "$durability" >>"$PG_DIR/data/postgresql.conf"
    at_exit stop_postgres immediate "$PG_DIR"

    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        PG_PORT=$(free_port)
        rm -f "$PG_DIR/log" # It may be root's, and must be the server's.
        if control_server start "$PG_DIR" "$PG_PORT"; then
            PG_URL=postgresql://postgres@127.0.0.1:$PG_PORT/postgres
            say "port $PG_PORT, data in $PG_DIR"
            return
        fi
        # Another process may have taken the port since.
        grep -q 'Address already in use' "$PG_DIR/log" || break
        say "port $PG_PORT was taken, attempt $attempt"
    done
    fail "Postgres did not start:"$'\n'"$(tail -n 20 "$PG_DIR/log")"
}

postgres_settings() {
    local socket_dir=$PG_DIR
    # A socket's whole path may have 107 bytes.
    ((${#PG_DIR} <= 85)) || socket_dir=''
    cat <<-SETTINGS
		listen_addresses = '127.0.0.1'
		unix_socket_directories = '${socket_dir//\'/\'\'}'
		max_connections = 300
		max_prepared_transactions = 10
		shared_buffers = 128MB
		log_lock_waits = on
		log_line_prefix = '%m [%p] %q%d %a '
	SETTINGS
    [[ $1 == durable ]] || printf '%s\n' 'fsync = off' 'full_page_writes = off'
}

# control_server start|restart DIR PORT
control_server() {
    as_postgres "$PG_BIN/pg_ctl" "$1" --wait --timeout=60 --silent --pgdata="$2/data" --log="$2/log" \
        --options="-p $3" >/dev/null 2>&1
}

# Restarts the private server, for settings that take effect only then.
restart_postgres() {
    control_server restart "$PG_DIR" "$PG_PORT" || fail "Postgres did not start again: $(tail -n 5 "$PG_DIR/log")"
}

# MODE is a mode of pg_ctl. It defaults to immediate, because the data of a private cluster is thrown away.
stop_postgres() {
    local mode=${1:-immediate} dir=${2:-$PG_DIR}
    [[ -e $dir/data/postmaster.pid ]] || return 0
    as_postgres "$PG_BIN/pg_ctl" stop --wait --timeout=30 --silent --mode="$mode" --pgdata="$dir/data" >/dev/null 2>&1
}
