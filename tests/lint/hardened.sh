#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hardened.sh PROGRAM: whether it was built so that a mistake is harder to use (meson.build):
# position independent, nothing both writable and executable, addresses of libraries' functions
# fixed and read-only from the start, canaries, checked copies, ready for shadow stacks.
set -eu
program=$1
bad=0

# has WHAT PATTERN READELF-OPTION
has() {
    if ! readelf -W "$3" "$program" | grep -Eq "$2"; then
        echo "error: $program: $1"
        bad=1
    fi
}

has 'not position independent' 'Type: +DYN' -h
has 'addresses of functions stay writable (no RELRO)' 'GNU_RELRO' -l
has 'addresses of functions are looked up late (no BIND_NOW)' '\(FLAGS_1\).*NOW' -d
has 'the stack is not said to hold no code' 'GNU_STACK.* RW +0x' -l
has 'no stack protector' '__stack_chk_fail' --dyn-syms
has 'no fortified functions' '__(memcpy|snprintf|vsnprintf|read|fprintf)_chk' --dyn-syms
if readelf -W -l "$program" | grep -Eq 'LOAD.* RWE '; then
    echo "error: $program: a part of it is both writable and executable"
    bad=1
fi
# What only the compiler's own work shows. (Debian 12's start files do not take part in the
# protection of returns, so the program as a whole is not marked with it.)
case $(uname -m) in
x86_64)
    if ! readelf -W -n "$(dirname "$program")/libbase.a" | grep -q SHSTK; then
        echo "error: $program: no protection of returns"
        bad=1
    fi
    ;;
esac
# Else one large array on the stack jumps over the page that guards it.
if ! grep -q fstack-clash-protection "$(dirname "$program")/compile_commands.json"; then
    echo "error: $program: compiled without -fstack-clash-protection"
    bad=1
fi
exit $bad
