// SPDX-License-Identifier: GPL-2.0
/* Calls functions that user space cannot, for the program that comes with it. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "repro.h"

/* The pages of each call, until they are given back. */
static struct page *held[REPRO_CALLS][REPRO_PAGES];
static long held_nr[REPRO_CALLS];

static void release(unsigned int call, bool pinned)
{
	for (long i = 0; i < held_nr[call]; i++) {
		if (pinned)
			unpin_user_page(held[call][i]);
		else
			put_page(held[call][i]);
	}
	held_nr[call] = 0;
}

static long repro_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct repro_pages in;
	unsigned int call;

	if (copy_from_user(&in, (void __user *)arg, sizeof(in)))
		return -EFAULT;
	if (cmd == REPRO_COUNT) {
		if (!pfn_valid(in.pfn[0]))
			return -EINVAL;
		in.ret = page_count(pfn_to_page(in.pfn[0]));
		return copy_to_user((void __user *)arg, &in, sizeof(in)) ? -EFAULT : 0;
	}
	if (in.nr < 0 || in.nr >= REPRO_PAGES)
		return -E2BIG;
	if (_IOC_NR(cmd) < REPRO_CALLS)
		memset(held[_IOC_NR(cmd)], 0, sizeof(held[0]));
	switch (cmd) {
	case REPRO_CALL(0):
		call = 0;
		mmap_read_lock(current->mm);
		#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
		in.ret = get_user_pages(in.start, in.nr, 0, held[call], NULL);
		#else
		in.ret = get_user_pages(in.start, in.nr, 0, held[call]);
		#endif
		mmap_read_unlock(current->mm);
		break;
	case REPRO_PUT(0):
		release(0, false);
		return 0;
	default:
		return -ENOTTY;
	}
	for (in.filled = 0; in.filled < in.nr && held[call][in.filled];)
		in.filled++;
	held_nr[call] = clamp_t(long, in.ret, 0, in.filled);
	for (long i = 0; i < held_nr[call]; i++)
		in.pfn[i] = page_to_pfn(held[call][i]);
	return copy_to_user((void __user *)arg, &in, sizeof(in)) ? -EFAULT : 0;
}

static int repro_release(struct inode *inode, struct file *file)
{
	release(0, false);
	return 0;
}

static const struct file_operations repro_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = repro_ioctl,
	.release = repro_release,
};

static struct miscdevice repro_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "repro",
	.fops = &repro_fops,
	.mode = 0600,
};

module_misc_device(repro_device);
MODULE_DESCRIPTION("reproducer");
MODULE_LICENSE("GPL");
