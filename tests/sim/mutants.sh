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
    raft_*)
        program=test_raft_random
        set -- "$seeds" 1
        ;;
    client_*)
        program=test_client_sim
        set -- 1 "$seeds"
        ;;
    *)
        program=test_agent_sim
        set -- 1 "$seeds"
        ;;
    esac
    if found=$(MUTANT=$name "$dir/$program" "$@" 2>&1); then
        grep "^$name " "$out"
        missed=$((missed + 1))
    else
        printf '%-30s %s %s\n' "$name" "$program" \
            "$(printf '%s\n' "$found" | grep -m 1 'seed' || echo 'it crashes')"
    fi
done
tail -n 1 "$out" | grep -q ' not found$' # or it did not run to its end
echo "$missed not found"
[ "$missed" -eq 0 ]
