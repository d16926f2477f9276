/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HOSTWALK_PORTS_H
#define HOSTWALK_PORTS_H

/*
 * Wait for the virtio-serial port of a name and open it, non-blocking. With a
 * negative timeout there is no end to it; -1 once the time is up.
 */
int ports_open(const char *name, long timeout_ms);

#endif
