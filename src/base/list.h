/* SPDX-License-Identifier: Apache-2.0 */
/* list.h -- the lists of <sys/queue.h>, with the safe walk that glibc's copy lacks. */
#ifndef MUSTER_LIST_H
#define MUSTER_LIST_H

#include <sys/queue.h>

#ifndef TAILQ_FOREACH_SAFE
#define TAILQ_FOREACH_SAFE(var, head, field, tvar)                                         \
    for ((var) = TAILQ_FIRST(head); (var) != NULL && ((tvar) = TAILQ_NEXT(var, field), 1); \
         (var) = (tvar))
#endif

#endif
