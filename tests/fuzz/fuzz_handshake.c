/* SPDX-License-Identifier: Apache-2.0 */
/* What a stranger may send first: HELLO, a token, a WELCOME. */
#include <stddef.h>

#include "base/mem.h"
#include "server/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hello h;
    struct token t;
    struct identity id = {0};
    struct handshake shake = {.key_len = TOKEN_KEY_LEN};
    struct buf again = {0};
    char *text = mem_dup_strn((const char *)data, len);

    if (hello_decode(&h, data, len) == 0) {
        hello_encode(&h, &again);
        if (again.len != len)
            __builtin_trap();
    }
    (void)token_parse(&t, text);
    (void)welcome_decode(&shake, &id, data, len);
    buf_free(&again);
    mem_free(text);
    return 0;
}
