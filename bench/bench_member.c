/* SPDX-License-Identifier: Apache-2.0 */
/* What a request costs a member, without sockets and disk: for a count of instructions.
 *
 *   bench_member get|set|ping [REQUESTS]      default 200000, each in a turn of its own
 *
 * The cost of one is the difference between two runs:
 *   for n in 100000 200000; do perf stat -e instructions:u bench_member get $n; done
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "lib/lone_member.h"
#include "wire/wire.h"

static void make(struct lone *l)
{
    struct buf acl = {0}, body = {0};
    const struct wire_acl one = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};
    char data[100] = "";
    size_t len;

    wire_acl_encode(&one, &acl);
    const struct wire_create_request q = {
        wire_bytes("/a", 2), wire_bytes(data, sizeof data), {acl.data, acl.len, 1}, 0};
    wire_create_request_encode(&q, &body);
    lone_request(l, 1, 1, WIRE_OP_CREATE, &body);
    while (lone_next(l, 1, &len) != NULL)
        ;
    buf_free(&acl);
    buf_free(&body);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "get";
    long n = argc > 2 ? atol(argv[2]) : 200000;
    const struct wire_path_watch_request get = {wire_bytes("/a", 2), 0};
    char data[100] = "";
    const struct wire_set_data_request set = {wire_bytes("/a", 2), wire_bytes(data, 100), -1};
    static struct lone l;
    struct buf body = {0};
    size_t len;

    lone_start(&l, 1);
    lone_connect(&l, 1, 0, NULL, 30000);
    lone_run(&l, 1000);
    make(&l);
    int32_t op = strcmp(what, "get") == 0   ? WIRE_OP_GET_DATA
                 : strcmp(what, "set") == 0 ? WIRE_OP_SET_DATA
                                            : WIRE_OP_PING;
    if (op == WIRE_OP_GET_DATA)
        wire_path_watch_request_encode(&get, &body);
    if (op == WIRE_OP_SET_DATA)
        wire_set_data_request_encode(&set, &body);
    long replies = 0;
    for (long i = 0; i < n; i++) {
        lone_request(&l, 1, op == WIRE_OP_PING ? -2 : (int32_t)i, op, &body);
        while (lone_next(&l, 1, &len) != NULL)
            replies++;
    }
    CHECK(replies >= n);
    printf("%s: %ld requests, %ld replies\n", what, n, replies);
    buf_free(&body);
    lone_stop(&l);
    return 0;
}
