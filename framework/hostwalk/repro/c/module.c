// SPDX-License-Identifier: GPL-2.0
/* Calls functions that user space cannot, for the program that comes with it. */
@INCLUDES@

#include "repro.h"

@PARTS@static const struct file_operations repro_fops = {
	.owner = THIS_MODULE,
@MMAP@	.unlocked_ioctl = repro_ioctl,
@RELEASE@};

static struct miscdevice repro_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "repro",
	.fops = &repro_fops,
	.mode = 0600,
};

module_misc_device(repro_device);
MODULE_DESCRIPTION("reproducer");
MODULE_LICENSE("GPL");
