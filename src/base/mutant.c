/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mutant.h"

#ifdef MUSTER_MUTANTS

enum mutant mutant_active;

static const struct {
    const char *name, *text;
} rows[] = {{"none", "nothing is wrong"},
#define M(name, text) {#name, text},
            MUTANT_TABLE(M)
#undef M
};

const char *mutant_name(enum mutant m) { return m < MUTANTS_END ? rows[m].name : "?"; }
const char *mutant_text(enum mutant m) { return m < MUTANTS_END ? rows[m].text : "?"; }

#else

typedef int mutant_is_off; /* a file must not be empty */

#endif
