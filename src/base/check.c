/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "level=crit ev=check_failed at=%s:%d what=\"%s\"\n", file, line, what);
    abort();
}
