#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The border between cores and shells, checked in the objects: what a core calls that is
# not its own must be another core's, base's, mem*/str*, or stand in the list below.
#
#   border.sh BUILD_DIR
set -eu
build=$1
CORES="wire tree raft site agent server-core client-core"

# Beside mem* and str*: what the compiler and the hardening put in, allocation through base,
# the formatting of numbers; yaml_* for the site file, json_* for status and registry. All of
# these work on memory alone.
allowed() {
    case "$1" in
    base) ;;
    site) printf 'yaml_*\n' ;;
    agent) printf 'json_*\nfree\n' ;; # what json_dumps() gives is freed so
    esac
    printf '%s\n' '_GLOBAL_OFFSET_TABLE_' '__stack_chk_fail' '__popcountdi2' 'mem*' '__mem*_chk' 'str*' \
        '__str*_chk' 'snprintf' '__snprintf_chk' 'vsnprintf' '__vsnprintf_chk' 'qsort' \
        'bsearch' '__isoc99_str*' '__ctype_b_loc' '__errno_location' 'inet_pton' 'inet_ntop'
}

ours=$(mktemp)
trap 'rm -f "$ours"' EXIT
bad=0
known=0
# What cores and base define. base's log is a shell's.
for room in base $CORES; do
    [ -f "$build/lib$room.a" ] || continue
    nm --defined-only -g "$build/lib$room.a" 2>/dev/null | awk 'NF == 3 { print $3 }' |
        grep -v '^log_' >>"$ours" || true
done

for room in $CORES; do
    [ -f "$build/lib$room.a" ] || continue
    known=$((known + 1))
    wrong=$(nm -u "$build/lib$room.a" 2>/dev/null | awk '
        /:$/ { object = $0; sub(/:$/, "", object) }
        $1 == "U" { print $2, object }' | sort -u | while read -r symbol object; do
        grep -qxF "$symbol" "$ours" && continue
        fine=no
        for pattern in $(allowed "$room"); do
            # shellcheck disable=SC2254 # a pattern is meant
            case "$symbol" in $pattern) fine=yes ;; esac
        done
        [ $fine = yes ] || echo "$room: $object calls $symbol"
    done)
    if [ -n "$wrong" ]; then
        echo "$wrong"
        bad=1
    fi
done
[ $known -gt 0 ] || { echo "no core is built in $build"; exit 1; }
exit $bad
