# shellcheck shell=bash disable=SC2154 # What scripts/bench sets.
#
# Another build of `worker`, measured in turns with this one: a program, or the one that a revision builds. It has a
# database of its own, with the schema that it brings.

# What the names of figures end in: nothing for this build.
build=''

# Checks what --against was given, before anything is built.
find_other() {
    other_commit=''
    if [[ -f $against && -x $against ]]; then
        against=$(realpath "$against")
        other_name=$against
        return
    fi
    other_commit=$(git -C "$REPOSITORY" rev-parse --verify --quiet "$against^{commit}") ||
        fail "--against $against is no program and no revision: give another build of worker, or a commit to build one from" 64
    other_name=$(git -C "$REPOSITORY" log -1 --format='%h %s' "$other_commit")
}

# Builds it, unless an earlier run did. A build that was interrupted is taken up again.
build_other() {
    local folder=$REPOSITORY/.build/bench-against/$other_commit
    [[ $other_commit ]] || return 0
    against=$folder/worker
    [[ ! -x $against ]] || return 0
    need_swift
    step "Building the worker of $other_name for release"
    mkdir -p "$folder/source"
    git archive "$other_commit" | tar -x -C "$folder/source"
    # The same packages as for this build.
    [[ ! -f Package.resolved ]] || cp Package.resolved "$folder/source"
    run swift build -c release --product worker --package-path "$folder/source" --scratch-path "$folder/build" >&2
    # The program stands alone.
    mv "$folder/build/release/worker" "$against"
    rm -rf "$folder/source" "$folder/build"
}

make_other_database() {
    say "the other build: $other_name"
    sql -c 'create database other'
    sql --dbname "$PG_BASE/other" -c 'create extension pg_stat_statements'
    "$against" migrate --database "$PG_BASE/other" >/dev/null
}

# other FUNCTION ARGUMENTS...: the same with the other build, in its database.
other() {
    # shellcheck disable=SC2034 # What it runs reads them.
    local worker=$against PG_URL=$PG_BASE/other build=', the other build'
    "$@"
}

# both FUNCTION ARGUMENTS...: with this build, and with the other one, if there is one; in each second turn that one comes
# first. The function puts "$build" behind the names of its figures.
both() {
    if ((round % 2)) || [[ -z $against ]]; then "$@"; fi
    [[ -z $against ]] || other "$@"
    if ((round % 2 == 0)) && [[ $against ]]; then "$@"; fi
}

# compare_builds PART WHAT GOAL: what this build has come to, as a ratio of what the other one has.
compare_builds() { [[ -z $against ]] || compare "$1" "$2" "$2, the other build" "$3"; }
