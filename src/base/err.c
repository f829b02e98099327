/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

/* Two rows with the same number do not compile: a switch has no equal cases. */

const char *err_name(int err)
{
    switch (err) {
#define E(sym, num, advice, text) \
    case sym: return #sym;
        ERR_TABLE(E)
#undef E
    }
    return err == 0 ? "OK" : "ERR_UNKNOWN";
}

const char *err_text(int err)
{
    switch (err) {
#define E(sym, num, advice, text) \
    case sym: return text;
        ERR_TABLE(E)
#undef E
    }
    return err == 0 ? "ok" : "unknown error";
}

enum err_advice err_advice(int err)
{
    switch (err) {
#define E(sym, num, advice, text) \
    case sym: return ERR_##advice;
        ERR_TABLE(E)
#undef E
    }
    return ERR_REPORT;
}
