/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "site/site.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A site, or errors; and a plan of whatever was read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct site_errors e;
    struct buf out = {0};
    struct site *s = site_parse(data, size, &e);

    CHECK((s == NULL) == (e.n > 0));
    site_errors_print(&e, "site.yml", &out);
    if (s != NULL) {
        CHECK(site_plan(NULL, s, &out) > 0);
        CHECK(site_plan(s, s, &out) == 0);
    }
    buf_free(&out);
    site_free(s);
    return 0;
}
