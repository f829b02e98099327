/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "server/zoocfg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A configuration, or lines that say why not; then the same bytes as a server's lines, a
 * reconfig and myid. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct zoo_config c;
    struct ensemble e, to, again;
    struct buf out = {0};
    int64_t id;

    zoo_config_parse(&c, "zoo.cfg", data, size);
    if (c.dynamic_file[0] != 0)
        zoo_config_parse_dynamic(&c, "dynamic", data, size);
    zoo_config_finish(&c, "zoo.cfg");
    CHECK((c.problems_n > 0) == (c.problems.len > 0));
    zoo_config_print(&c, "zoo.cfg", &out);
    zoo_config_free(&c);
    (void)zoo_myid_parse(data, size, &id, &out);
    if (ensemble_parse(&e, (const char *)data, size) == 0) {
        const struct reconfig_texts t = {.joining = (const char *)data,
                                         .joining_len = size,
                                         .leaving = (const char *)data,
                                         .leaving_len = size};
        buf_clear(&out);
        ensemble_print(&e, &out);
        CHECK(ensemble_parse(&again, (const char *)out.data, out.len) == 0 && again.n == e.n);
        (void)ensemble_change(&e, &t, 1, &to);
        CHECK(to.n <= ENSEMBLE_MAX);
    }
    buf_free(&out);
    return 0;
}
