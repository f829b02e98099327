/* SPDX-License-Identifier: Apache-2.0 */
/* status_show.h -- the JSON of /status (agent/status.h) as text for people. */
#ifndef MUSTER_STATUS_SHOW_H
#define MUSTER_STATUS_SHOW_H

#include <jansson.h>
#include <stdio.h>

/* Everything but the verdict. What is missing or of another type is left out. */
void status_show(FILE *to, const json_t *status);

#endif
