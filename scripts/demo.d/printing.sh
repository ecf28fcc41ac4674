# shellcheck shell=bash
#
# How the demo prints what it finds, beside `step` and `say`.

# Indents standard input, and removes the spaces at the ends of its lines.
indent() { sed 's/^/    /; s/ *$//'; }

# show_query TITLE QUERY: prints the title and the table that the query returns.
show_query() {
    say ''
    say "$1"
    psql --command "$2" | indent
}

# run_and_show COMMAND...: prints the command and what it prints.
run_and_show() {
    say ''
    say "$ $*"
    "$@" 2>&1 | indent
}
