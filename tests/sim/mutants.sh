#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mutants.sh DIRECTORY [--search]: every planted fault must be found (./dev sim --mutants).
#
# Where tests/sim/found says that it was found last; if it is not any more, or with --search,
# within 1,000 seeds of the worlds of sim_site. What needs a rarer turn of events than these
# draw is looked for in the simulations of one room, which draw little else, or by the tests of
# that one thing. --search writes tests/sim/found anew.
set -eu

dir=$1
search=${2-}
seeds=1000
out=$(mktemp)
all=$(mktemp)
trap 'rm -f "$out" "$all"' EXIT

# shellcheck disable=SC2086 # none, or one
"$dir/sim_site" --mutants $search > "$out" || true
(grep -v ' not found$' "$out" | grep -v 'NOT FOUND') | tee "$all" || true

# What fails without the fault as well has found nothing. Seeds: as far as those that found it.
is_sound() {
    seed=$(printf '%s\n' "$found" | grep -o -m 1 -E '^seed [0-9]+' | cut -d ' ' -f 2)
    case $1 in
    test_raft_random) set -- "$dir/$1" "${seed:-1}" 1 ;;
    test_*_sim) set -- "$dir/$1" 1 "${seed:-1}" ;;
    *) set -- "$dir/$1" ;;
    esac
    "$@" > /dev/null 2>&1 || {
        echo "mutants.sh: $* fails without a fault, too" >&2
        return 1
    }
}

missed=0
# shellcheck disable=SC2013 # names are words
for name in $(awk '/NOT FOUND/ { print $1 }' "$out"); do
    case $name in
    raft_*) programs="test_raft_change test_raft_pieces test_raft_elect test_raft_lives test_raft_random,$seeds,1" ;;
    tree_* | watch_*) programs='test_tree_acl test_tree_quota test_tree_saving test_nodes test_watch' ;;
    backup_* | scan_*) programs='test_backup test_scan' ;;
    client_*) programs="test_client_sim,1,$seeds test_agent_sim,1,$seeds" ;;
    store_*) programs='test_store test_opening test_store_again test_store_crash' ;;
    zkdata_*) programs=test_zkdata ;;
    clients_*) programs=test_clients ;;
    transport_*) programs=test_transport ;;
    writer_*) programs=test_writer ;;
    address_* | assign_* | service_* | balance_*) programs="test_agent_sim,1,$seeds" ;;
    *) programs= ;; # only the worlds draw it
    esac
    by=
    for words in $programs; do
        program=${words%%,*}
        arguments=$(printf '%s' "${words#"$program"}" | tr ',' ' ')
        # shellcheck disable=SC2086 # none, or several
        if ! found=$(MUTANT=$name "$dir/$program" $arguments 2>&1) && is_sound "$program"; then
            by=$program
            break
        fi
    done
    if [ -z "$by" ]; then
        grep "^$name " "$out"
        missed=$((missed + 1))
    else
        printf '%-30s %s %s\n' "$name" "$by" \
            "$(printf '%s\n' "$found" | grep -m 1 -E 'seed|FAILED' || echo 'it crashes')"
        echo "$name $by" >> "$all"
    fi
done
tail -n 1 "$out" | grep -q ' not found$' # or it did not run to its end
echo "$missed not found"
if [ -n "$search" ]; then
    { echo '# ./dev sim --mutants --search writes this: where each planted fault was found.'
      awk '{ print $1, $2 ($2 ~ /^test_/ ? "" : " " $4) }' "$all" | sort; } > tests/sim/found
fi
[ "$missed" -eq 0 ]
