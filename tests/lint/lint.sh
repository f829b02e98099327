#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2317 # check() calls them by name
# ./dev lint: one line for each check; what it found stands in build/log/lint-*.txt.
set -u
TOP=$(cd "$(dirname "$0")/../.." && pwd)
cd "$TOP" || exit 1
BUILD=build
LOG=build/log
JOBS=$(nproc)
failed=0
mkdir -p $LOG

# check NAME COMMAND...: passes when the command exits 0.
check() {
    name=$1
    shift
    if "$@" >"$LOG/lint-$name.txt" 2>&1; then
        echo "ok lint: $name"
    else
        found=$(grep -cE '(error|warning|calls|may not|need each other):? ' "$LOG/lint-$name.txt")
        echo "FAILED lint: $name: $found findings, $LOG/lint-$name.txt"
        sed 's/^/    /' "$LOG/lint-$name.txt" | grep -vE '^ *$' | head -n 12
        failed=1
    fi
}

format() { find src tests bench -name '*.[ch]' -print0 | xargs -0 -r clang-format -n -Werror; }

# The tests stay out: they break things on purpose. What did not compile stays out too.
tidy() {
    sed -n 's|^ *"file": "\.\./\(src/.*\)",*$|\1|p' "$BUILD/compile_commands.json" | sort -u |
        xargs -r -n 2 -P "$JOBS" clang-tidy --quiet -p "$BUILD" \
            --extra-arg=-Wno-ignored-optimization-argument 2>/dev/null
}

cpp_check() {
    # It takes sys/queue.h's heads for nonsense.
    cppcheck '-DTAILQ_HEAD(n,t)=struct n{struct t *a;}' '-DLIST_HEAD(n,t)=struct n{struct t *a;}' \
        '-DTAILQ_ENTRY(t)=struct{struct t *a;}' '-DLIST_ENTRY(t)=struct{struct t *a;}' --std=c11 --quiet --inline-suppr --error-exitcode=1 -j "$JOBS" -Isrc \
        --enable=warning,portability --suppress=missingIncludeSystem -D_GNU_SOURCE \
        --suppressions-list=tests/lint/cppcheck.txt src tests/lib tests/sim tests/cluster
}

shells() {
    find dev .ci/run tests bench \( -name '*.sh' -o -path dev -o -path .ci/run \) \
        -exec shellcheck {} +
}

python_files() {
    find tests bench -name '*.py' -exec /usr/bin/python3 -m py_compile {} +
}

spdx() {
    missing=$(find dev meson.build src tests bench \( -name '*.[ch]' -o -name '*.py' \
        -o -name '*.sh' -o -path dev -o -name meson.build \) \
        -exec grep -L 'SPDX-License-Identifier: Apache-2.0' {} +)
    [ -z "$missing" ] || { printf 'error: no licence line in %s\n' "$missing"; return 1; }
}

check format format
check licence spdx
check shell shells
check python python_files
check headers /usr/bin/python3 tests/lint/rooms.py --check
check border tests/lint/border.sh $BUILD
check hardened tests/lint/hardened.sh $BUILD/muster
check cppcheck cpp_check
[ "${1:-}" = --quick ] || check tidy tidy
exit $failed
