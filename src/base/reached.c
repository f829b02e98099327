/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reached.h"

#ifdef MUSTER_REACHED

enum { OFTEN, RARE };

unsigned char reached_now[REACHED_END];

static const struct {
    const char *name, *text;
    int rarity;
} rows[] = {
#define R(name, often, text) {#name, text, often},
    REACHED_TABLE(R)
#undef R
};

const char *reached_name(unsigned state) { return rows[state].name; }
const char *reached_text(unsigned state) { return rows[state].text; }
int reached_is_rare(unsigned state) { return rows[state].rarity == RARE; }

#else

typedef int reached_is_off; /* a file must not be empty */

#endif
