#!/bin/sh
# A handler for Breakwater's `stdio` plugin in plain shell. It needs jq, which is started once.
#
#     handlers:
#       file.digest: { stdio: { command: [./handler.sh] } }
#
# It runs one job after another, and knows neither cancellations nor heartbeats: a run that goes on after its time is
# ended with the process. Standard output belongs to the protocol; what is for people goes to standard error.

read -r hello || exit 0
case $hello in
*'"protocol":1,'*) ;;
*)
    echo "this is not version 1 of the protocol: $hello" >&2
    exit 1
    ;;
esac
echo '{"type":"hello","protocol":1,"jobs":1,"library":"shell example"}'

# Each line becomes its type, its run, and what the job needs from the payload, separated by tabs.
jq --unbuffered --raw-output '[.type, .run // 0, (.payload.path? // "" | tostring)] | @tsv' |
    while IFS="$(printf '\t')" read -r type run path; do
        case $type in
        drain) exit 0 ;;
        run) ;;
        *) continue ;; # Later versions of the protocol may have more messages.
        esac
        if [ -z "$path" ]; then
            error='{"name":"digest.noPath","message":"the payload has no path"}'
            echo "{\"type\":\"result\",\"run\":$run,\"outcome\":\"discarded\",\"error\":$error}"
        elif digest=$(sha256sum -- "$path" </dev/null); then
            echo "{\"type\":\"result\",\"run\":$run,\"outcome\":\"succeeded\",\"result\":\"${digest%% *}\"}"
        else
            error='{"name":"digest.unreadable","message":"the file cannot be read; see the log"}'
            echo "{\"type\":\"result\",\"run\":$run,\"outcome\":\"failed\",\"error\":$error}"
        fi
    done
