/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h -- tells systemd how far we are (sd_notify(3), the protocol without the library).
 * Not started by systemd with Type=notify: nothing is sent, and nothing is wrong.
 */
#ifndef MUSTER_NOTIFY_H
#define MUSTER_NOTIFY_H

#include <stdint.h>

/* "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=..."; lines. 0, ERR_NOT_FOUND: nobody wants
 * to know; else why it did not arrive. */
int notify_send(const char *text);
/* How often WATCHDOG=1 is expected at least; 0: it is not. */
uint64_t notify_watchdog_ms(void);

#endif
