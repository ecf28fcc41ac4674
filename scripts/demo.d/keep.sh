# shellcheck shell=bash
# shellcheck disable=SC2154 # What scripts/demo sets.
#
# What --keep does: everything stays as it is, and the demo says how to use it and how to end it.

leave_running() {
    write_end_script
    keep_running
    step "Everything keeps running"
    say "export DATABASE_URL=$PG_URL"
    say "$WORKER status"
    say "$PG_BIN/psql $PG_URL -c \"insert into breakwater.job (kind, payload) values ('webhook.deliver', '{\\\"order\\\": 1}')\""
    say "tail $NGINX_DIR/access.log $DIR/worker-*.log"
    say "stop nginx:  kill \$(cat $NGINX_DIR/nginx.pid)"
    say "start nginx: setsid $NGINX -p $NGINX_DIR -c $NGINX_DIR/nginx.conf &"
    say "end it all:  $DIR/end"
}

write_end_script() {
    cat >"$DIR/end" <<END
#!/bin/sh
# Ends everything that scripts/demo --keep left running, and removes it.
nginx=\$(cat '$NGINX_DIR/nginx.pid' 2>/dev/null)
kill -TERM ${WORKER_PIDS[*]} \$nginx 2>/dev/null
for pid in ${WORKER_PIDS[*]} \$nginx; do tail --pid="\$pid" -f /dev/null; done
postgres=\$(head -n 1 '$PG_DIR/data/postmaster.pid') && kill -INT "\$postgres" && tail --pid="\$postgres" -f /dev/null
rm -r '$DIR'
END
    chmod 755 "$DIR/end"
}
