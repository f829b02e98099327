#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mutants.sh DIRECTORY: every planted fault must be found within 1,000 seeds (./dev sim --mutants).
#
# First in the worlds of sim_site. What needs a rarer turn of events than these draw is looked
# for in the simulations of one room, which draw little else.
set -eu

dir=$1
seeds=1000
out=$(mktemp)
trap 'rm -f "$out"' EXIT

"$dir/sim_site" --mutants > "$out" || true
grep -v ' not found$' "$out" | grep -v 'NOT FOUND' || true
missed=0
# shellcheck disable=SC2013 # names are words
for name in $(awk '/NOT FOUND/ { print $1 }' "$out"); do
    case $name in
    raft_*) programs="test_raft_change test_raft_lives test_raft_random,$seeds,1" ;;
    tree_* | watch_*) programs='test_tree_acl test_tree_quota' ;;
    backup_* | scan_*) programs='test_backup test_scan' ;;
    client_*) programs="test_client_sim,1,$seeds test_agent_sim,1,$seeds" ;;
    zkdata_*) programs=test_zkdata ;;
    *) programs="test_agent_sim,1,$seeds" ;;
    esac
    by=
    for words in $programs; do
        program=${words%%,*}
        arguments=$(printf '%s' "${words#"$program"}" | tr ',' ' ')
        # shellcheck disable=SC2086 # none, or several
        if ! found=$(MUTANT=$name "$dir/$program" $arguments 2>&1); then
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
    fi
done
tail -n 1 "$out" | grep -q ' not found$' # or it did not run to its end
echo "$missed not found"
[ "$missed" -eq 0 ]
