/* SPDX-License-Identifier: Apache-2.0 */
/* text.h -- copying text into a place of fixed size, inside src/agent. */
#ifndef MUSTER_AGENT_TEXT_H
#define MUSTER_AGENT_TEXT_H

#include <stddef.h>
#include <string.h>

/* Cuts what does not fit, never in the middle of a UTF-8 character. size > 0. */
static inline void text_copy(char *to, size_t size, const char *text)
{
    size_t len = strlen(text);

    if (len >= size) {
        len = size - 1;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
            len--;
    }
    memmove(to, text, len);
    to[len] = 0;
}

#endif
