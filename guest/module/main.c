// SPDX-License-Identifier: GPL-2.0
/*
 * The exerciser: does memory-management work on request of a user program, so
 * that a host outside the machine can see what came of it.
 *
 * Misuse that the kernel answers with an error is passed on. Misuse that would
 * be a BUG or would damage the kernel is refused with -EPERM.
 */
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "hostwalk.h"

bool hostwalk_allow_bug;
module_param_named(allow_bug, hostwalk_allow_bug, bool, 0644);
MODULE_PARM_DESC(allow_bug, "pass on misuse that crashes or damages the kernel");

static int hostwalk_open(struct inode *inode, struct file *filp)
{
	struct hostwalk_file *file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);

	if (!file)
		return -ENOMEM;
	mutex_init(&file->release_lock);
	xa_init_flags(&file->pins, XA_FLAGS_ALLOC1);
	xa_init_flags(&file->blocks, XA_FLAGS_ALLOC1);
	spin_lock_init(&file->plan_lock);
	INIT_LIST_HEAD(&file->plans);
	filp->private_data = file;
	return 0;
}

static int hostwalk_close(struct inode *inode, struct file *filp)
{
	struct hostwalk_file *file = filp->private_data;
	struct hostwalk_plan *plan, *next;
	struct hostwalk_block *block;
	struct hostwalk_pins *pins;
	unsigned long index;

	xa_for_each(&file->pins, index, pins)
		hostwalk_pins_free(pins);
	xa_destroy(&file->pins);
	list_for_each_entry_safe(plan, next, &file->plans, node)
		kfree(plan);
	xa_for_each(&file->blocks, index, block)
		hostwalk_block_free(block);
	xa_destroy(&file->blocks);
	kfree(file);
	return 0;
}

static long hostwalk_ioctl_gup(struct hostwalk_file *file, void __user *arg)
{
	struct hostwalk_gup gup;
	long ret;

	if (copy_from_user(&gup, arg, sizeof(gup)))
		return -EFAULT;
	ret = hostwalk_gup(file, &gup);
	if (!ret && copy_to_user(arg, &gup, sizeof(gup)))
		return -EFAULT;
	return ret;
}

static long hostwalk_ioctl_release(struct hostwalk_file *file, void __user *arg)
{
	struct hostwalk_release release;

	if (copy_from_user(&release, arg, sizeof(release)))
		return -EFAULT;
	return hostwalk_release(file, &release);
}

static long hostwalk_ioctl_alloc(struct hostwalk_file *file, void __user *arg)
{
	struct hostwalk_alloc alloc;
	long ret;

	if (copy_from_user(&alloc, arg, sizeof(alloc)))
		return -EFAULT;
	ret = hostwalk_alloc(file, &alloc);
	if (!ret && copy_to_user(arg, &alloc, sizeof(alloc)))
		return -EFAULT;
	return ret;
}

static long hostwalk_ioctl_free(struct hostwalk_file *file, void __user *arg)
{
	struct hostwalk_free free;

	if (copy_from_user(&free, arg, sizeof(free)))
		return -EFAULT;
	return hostwalk_free(file, &free);
}

static long hostwalk_ioctl_insert(struct hostwalk_file *file, void __user *arg)
{
	struct hostwalk_insert in;
	long ret;

	if (copy_from_user(&in, arg, sizeof(in)))
		return -EFAULT;
	ret = hostwalk_insert(file, &in);
	if (!ret && copy_to_user(arg, &in, sizeof(in)))
		return -EFAULT;
	return ret;
}

static long hostwalk_ioctl_result(struct hostwalk_file *file, void __user *arg)
{
	struct hostwalk_insert_result result;

	spin_lock(&file->plan_lock);
	result = file->result;
	spin_unlock(&file->plan_lock);
	return copy_to_user(arg, &result, sizeof(result)) ? -EFAULT : 0;
}

static long hostwalk_spin(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
	return 0;
}

static long hostwalk_oops(void)
{
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	return READ_ONCE(*nowhere);
}

static long hostwalk_warn(void)
{
	WARN(1, "hostwalk: as asked\n");
	return 0;
}

static long hostwalk_ioctl(struct file *filp, unsigned int command, unsigned long arg)
{
	struct hostwalk_file *file = filp->private_data;
	void __user *user = (void __user *)arg;

	switch (command) {
	case HOSTWALK_IOC_GUP:
		return hostwalk_ioctl_gup(file, user);
	case HOSTWALK_IOC_RELEASE:
		return hostwalk_ioctl_release(file, user);
	case HOSTWALK_IOC_ALLOC:
		return hostwalk_ioctl_alloc(file, user);
	case HOSTWALK_IOC_FREE:
		return hostwalk_ioctl_free(file, user);
	case HOSTWALK_IOC_INSERT:
		return hostwalk_ioctl_insert(file, user);
	case HOSTWALK_IOC_RESULT:
		return hostwalk_ioctl_result(file, user);
	case HOSTWALK_IOC_SPIN:
		return hostwalk_spin();
	case HOSTWALK_IOC_OOPS:
		return hostwalk_oops();
	case HOSTWALK_IOC_WARN:
		return hostwalk_warn();
	default:
		return -ENOTTY;
	}
}

static int hostwalk_file_mmap(struct file *filp, struct vm_area_struct *vma)
{
	return hostwalk_mmap(filp->private_data, vma);
}

static const struct file_operations hostwalk_fops = {
	.owner = THIS_MODULE,
	.open = hostwalk_open,
	.release = hostwalk_close,
	.unlocked_ioctl = hostwalk_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = hostwalk_file_mmap,
};

static struct miscdevice hostwalk_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "hostwalk",
	.fops = &hostwalk_fops,
};
module_misc_device(hostwalk_device);

MODULE_DESCRIPTION("Memory-management work for a witness outside the machine");
MODULE_LICENSE("GPL");
