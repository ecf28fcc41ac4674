# shellcheck shell=bash
# shellcheck disable=SC2154 # What scripts/demo sets.
#
# The receiver of webhooks: a private nginx that can be stopped, started and reconfigured, and its access log.

NGINX_PID=''

# Sets `NGINX`, the program, and installs it where it is missing.
need_nginx() {
    NGINX=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx) || {
        need_packages nginx
        NGINX=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx) || fail "nginx was not found." 69
    }
}

# Sets `NGINX_DIR`, a new directory in `DIR`, and `NGINX_VERSION`, a text that only nginx of this run knows.
prepare_nginx() {
    NGINX_DIR=$DIR/nginx
    NGINX_VERSION=breakwater-demo-$$-$RANDOM
    mkdir "$NGINX_DIR"
    # The account that nginx's workers run as must get through to its own directories.
    chmod 711 "$DIR" "$NGINX_DIR"
    cat >"$NGINX_DIR/verdicts" <<'VERDICTS'
'~"account": *"closed"' reject;
default accept;
VERDICTS
    touch "$NGINX_DIR/access.log"
}

# The verdict on a delivery depends on its body, and nginx reads a body only if it passes it on. So it passes each
# delivery, with the verdict in a header, on to a second server of its own, and that server answers.
write_nginx_config() {
    local user=''
    if ((EUID == 0)); then
        user=www-data
        id "$user" >/dev/null 2>&1 || user=nobody
        user="user $user $(id -gn "$user");"
    fi
    cat >"$NGINX_DIR/nginx.conf" <<-CONFIG
		$user
		daemon off;
		worker_processes 1;
		worker_shutdown_timeout 10s;
		pid $NGINX_DIR/nginx.pid;
		error_log $NGINX_DIR/error.log notice;
		events { worker_connections 1024; }
		http {
		    client_body_temp_path $NGINX_DIR/body;
		    proxy_temp_path $NGINX_DIR/proxy;
		    fastcgi_temp_path $NGINX_DIR/fastcgi;
		    uwsgi_temp_path $NGINX_DIR/uwsgi;
		    scgi_temp_path $NGINX_DIR/scgi;

		    log_format delivery escape=none
		        '\$time_iso8601 status=\$status job=\$http_breakwater_job_id attempt=\$http_breakwater_attempt '
		        'from=\$http_user_agent body=\$request_body';
		    access_log off;

		    # The verdict on a body: the first rule that fits.
		    map \$request_body \$verdict {
		        include $NGINX_DIR/verdicts;
		    }
		    # A receiver with a limit: 150 deliveries a second, the others wait their turn.
		    limit_req_zone \$server_name zone=pace:64k rate=150r/s;

		    server {
		        listen 127.0.0.1:$NGINX_PORT;
		        server_name receiver;
		        location = /hook {
		            limit_req zone=pace burst=1000;
		            client_body_in_single_buffer on;
		            client_body_buffer_size 64k;
		            proxy_set_header Host verdict;
		            proxy_set_header Verdict \$verdict;
		            proxy_pass http://127.0.0.1:$NGINX_PORT;
		            access_log $NGINX_DIR/access.log delivery;
		        }
		        location = /version {
		            return 200 "$NGINX_VERSION";
		        }
		    }
		    server {
		        listen 127.0.0.1:$NGINX_PORT;
		        server_name verdict;
		        default_type text/plain;
		        if (\$http_verdict = accept) {
		            return 204;
		        }
		        return 422 "the account is closed\n";
		    }
		}
	CONFIG
}

# Succeeds if nginx answers with its version. Another server that took the port does not know that version.
nginx_answers() {
    local line answer=''
    kill -0 "$NGINX_PID" 2>/dev/null || return 1
    {
        exec 3<>"/dev/tcp/127.0.0.1/$NGINX_PORT"
    } 2>/dev/null || return 1
    printf 'GET /version HTTP/1.0\r\nHost: receiver\r\n\r\n' >&3 || true
    while IFS= read -r -t 5 line <&3 || [[ -n $line ]]; do answer=$line; done
    exec 3>&-
    [[ $answer == "$NGINX_VERSION" ]]
}

# Starts nginx on the port that it had, or on a free one, which it sets as `NGINX_PORT`.
start_nginx() {
    local attempt fixed=${NGINX_PORT-}
    for attempt in 1 2 3 4 5; do
        NGINX_PORT=${fixed:-$(free_port)}
        write_nginx_config
        env --default-signal=INT,QUIT "$RUN_MARK" setsid "$NGINX" -p "$NGINX_DIR" -c "$NGINX_DIR/nginx.conf" \
            </dev/null >>"$NGINX_DIR/error.log" 2>&1 &
        NGINX_PID=$!
        for ((i = 0; i < 300; i++)); do
            ! nginx_answers || return 0
            kill -0 "$NGINX_PID" 2>/dev/null || break
            sleep 0.1
        done
        stop_nginx
        grep -q 'Address already in use' "$NGINX_DIR/error.log" || break
        say "port $NGINX_PORT was taken, attempt $attempt"
    done
    fail "nginx did not start:"$'\n'"$(tail -n 20 "$NGINX_DIR/error.log")"
}

nginx_is_gone() { ! kill -0 "$NGINX_PID" 2>/dev/null; }

# Stops nginx at once: the deliveries that it is about to answer get no answer.
stop_nginx() {
    local i
    for ((i = 0; i < 100; i++)); do
        ! nginx_is_gone || break
        ((i > 0)) || kill -TERM "$NGINX_PID" 2>/dev/null || true
        sleep 0.1
    done
    # It leads a process group of its own.
    kill -KILL -- "-$NGINX_PID" 2>/dev/null || true
    wait "$NGINX_PID" 2>/dev/null || true
}

# Gives nginx its new configuration. When this returns, no process of nginx has the old one.
reload_nginx() {
    local old
    NGINX_VERSION+='+'
    old=$(cat "/proc/$NGINX_PID/task/$NGINX_PID/children")
    write_nginx_config
    kill -HUP "$NGINX_PID"
    wait_until "nginx reads its new configuration" nginx_answers
    # shellcheck disable=SC2086 # One process id a word.
    wait_until "nginx's old processes end" processes_are_gone $old
}
processes_are_gone() {
    local pid
    for pid in "$@"; do
        [[ ! -e /proc/$pid ]] || return 1
    done
}

# accept_order NUMBER: lets nginx accept the delivery of an order whatever the account is.
accept_order() {
    local verdicts
    verdicts=$(cat "$NGINX_DIR/verdicts")
    printf '%s\n' "'~\"order\": *${1}[,}]' accept;" "$verdicts" >"$NGINX_DIR/verdicts"
    reload_nginx
}

# --- The access log

count_accepted() { grep -c ' status=2' "$NGINX_DIR/access.log" || true; }

delivery_is_accepted() { grep -q " status=2.. job=$1 " "$NGINX_DIR/access.log"; }

# print_requests JOB: prints the lines of the log about the job.
print_requests() { grep " job=$1 " "$NGINX_DIR/access.log" | indent; }

# Copies the log to the table demo.received.
load_access_log() {
    psql --command 'create table demo.received (at timestamptz, status integer, job bigint, attempt integer, worker text)'
    sed -E 's/^([^ ]+) status=([0-9]+) job=([0-9]+) attempt=([0-9]+) from=([^ ]*) .*/\1\t\2\t\3\t\4\t\5/' \
        "$NGINX_DIR/access.log" | psql --command 'copy demo.received from stdin'
}
