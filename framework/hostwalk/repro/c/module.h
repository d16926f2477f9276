/* SPDX-License-Identifier: GPL-2.0 */
#ifndef REPRO_H
#define REPRO_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define REPRO_TYPE 'R'
@PARTS@

#endif
