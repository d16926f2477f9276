// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/ring shares a ring of pages with user space: mmap(2) maps the whole of
 * it, read(2) gives the page frame numbers of its pages, 64 bits each.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

#define RING_PAGES	4

static bool forget;
module_param(forget, bool, 0444);
MODULE_PARM_DESC(forget, "forget to map the last page: a bug for the test to find");

static bool leak;
module_param(leak, bool, 0444);
MODULE_PARM_DESC(leak, "keep a reference to each page that was mapped: another one");

static struct page *ring[RING_PAGES];

static ssize_t ring_read(struct file *file, char __user *buffer, size_t size, loff_t *offset)
{
	u64 pfns[RING_PAGES];
	unsigned int i;

	for (i = 0; i < RING_PAGES; i++)
		pfns[i] = page_to_pfn(ring[i]);
	return simple_read_from_buffer(buffer, size, offset, pfns, sizeof(pfns));
}

static int ring_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long left = RING_PAGES - forget;
	unsigned int i;

	if (vma->vm_pgoff || vma_pages(vma) != RING_PAGES)
		return -EINVAL;
	for (i = 0; leak && i < RING_PAGES; i++)
		get_page(ring[i]);
	return vm_insert_pages(vma, vma->vm_start, ring, &left);
}

static const struct file_operations ring_fops = {
	.owner = THIS_MODULE,
	.read = ring_read,
	.mmap = ring_mmap,
};

static struct miscdevice ring_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ring",
	.fops = &ring_fops,
};

static void ring_free(void)
{
	unsigned int i;

	for (i = 0; i < RING_PAGES && ring[i]; i++)
		put_page(ring[i]);
}

static int __init ring_init(void)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < RING_PAGES && !ret; i++) {
		ring[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		ret = ring[i] ? 0 : -ENOMEM;
	}
	if (!ret)
		ret = misc_register(&ring_device);
	if (ret)
		ring_free();
	return ret;
}

static void __exit ring_exit(void)
{
	misc_deregister(&ring_device);
	ring_free();
}

module_init(ring_init);
module_exit(ring_exit);
MODULE_DESCRIPTION("An example: a ring of pages for user space");
MODULE_LICENSE("GPL");
