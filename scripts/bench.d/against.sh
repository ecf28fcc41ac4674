# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures another build of `worker` in turns with this one: a program, or the one that a revision builds. It has a
# database of its own, with its own schema.

# The suffix of the names of figures. It is empty for this build.
build=''

# Checks the argument of --against, before anything is built.
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

# Builds it, unless an earlier run did. An interrupted build is continued.
build_other() {
    local folder=$REPOSITORY/.build/bench-against/$other_commit
    [[ $other_commit ]] || return 0
    against=$folder/worker
    [[ ! -x $against ]] || return 0
    need_swift
    step "Building the worker of $other_name for release"
    mkdir -p "$folder/source"
    git archive "$other_commit" | tar -x -C "$folder/source"
    # The other build uses the same packages as this build.
    [[ ! -f Package.resolved ]] || cp Package.resolved "$folder/source"
    run swift build -c release --product worker --package-path "$folder/source" --scratch-path "$folder/build" >&2
    # The program needs no other file of its build.
    mv "$folder/build/release/worker" "$against"
    rm -rf "$folder/source" "$folder/build"
}

make_other_database() {
    say "the other build: $other_name"
    sql -c 'create database other'
    sql --dbname "$PG_BASE/other" -c 'create extension pg_stat_statements'
    "$against" migrate --database "$PG_BASE/other" >/dev/null
}

# other FUNCTION ARGUMENTS...: runs the function with the other build, in its database.
other() {
    # shellcheck disable=SC2034 # The function that is run reads these variables.
    local worker=$against PG_URL=$PG_BASE/other build=', the other build'
    "$@"
}

# both FUNCTION ARGUMENTS...: runs the function with this build, and with the other one, if there is one. In every
# second turn the other build comes first. The function appends "$build" to the names of its figures.
both() {
    if ((round % 2)) || [[ -z $against ]]; then "$@"; fi
    [[ -z $against ]] || other "$@"
    if ((round % 2 == 0)) && [[ $against ]]; then "$@"; fi
}

# compare_builds PART WHAT GOAL: compares a figure of this build with that of the other, as a ratio.
compare_builds() { [[ -z $against ]] || compare "$1" "$2" "$2, the other build" "$3"; }
