// SPDX-License-Identifier: GPL-2.0
/* Pages of chosen kinds, to be inserted into mappings. */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "hostwalk.h"

int hostwalk_put_pfns(u64 address, struct page **pages, u32 nr)
{
	u64 __user *user = u64_to_user_ptr(address);
	u32 i;

	for (i = 0; i < nr; i++)
		if (put_user((u64)page_to_pfn(pages[i]), user + i))
			return -EFAULT;
	return 0;
}

static bool hostwalk_kind_has_order(u32 kind)
{
	return kind == HOSTWALK_PAGE_COMPOUND || kind == HOSTWALK_PAGE_SPLIT ||
	       kind == HOSTWALK_PAGE_UNSPLIT;
}

static int hostwalk_fill_order0(struct hostwalk_block *block)
{
	u32 i;

	for (i = 0; i < block->nr; i++) {
		block->pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!block->pages[i])
			return -ENOMEM;
	}
	return 0;
}

static int hostwalk_fill_block(struct hostwalk_block *block)
{
	gfp_t gfp = GFP_KERNEL | __GFP_ZERO;
	struct page *page;
	u32 i;

	if (block->kind == HOSTWALK_PAGE_COMPOUND)
		gfp |= __GFP_COMP;
	page = alloc_pages(gfp, block->order);
	if (!page)
		return -ENOMEM;
	if (block->kind == HOSTWALK_PAGE_SPLIT)
		split_page(page, block->order);
	for (i = 0; i < block->nr; i++)
		block->pages[i] = page + i;
	return 0;
}

static int hostwalk_fill_zero(struct hostwalk_block *block)
{
	u32 i;

	for (i = 0; i < block->nr; i++)
		block->pages[i] = ZERO_PAGE(0);
	return 0;
}

/* The object fills its page, so that a user who writes to it harms nobody. */
static int hostwalk_fill_slab(struct hostwalk_block *block)
{
	if (block->nr != 1)
		return -EINVAL;
	block->object = kzalloc(PAGE_SIZE, GFP_KERNEL);
	if (!block->object)
		return -ENOMEM;
	block->pages[0] = virt_to_page(block->object);
	return 0;
}

static int hostwalk_fill_mapped(struct hostwalk_block *block, unsigned long addr)
{
	int ret;

	if (block->nr != 1)
		return -EINVAL;
	ret = get_user_pages_fast(addr, 1, FOLL_WRITE, block->pages);
	if (ret != 1)
		return ret < 0 ? ret : -EFAULT;
	return block->kind == HOSTWALK_PAGE_MAPPED || PageAnon(block->pages[0]) ? 0 : -EINVAL;
}

static int hostwalk_block_fill(struct hostwalk_block *block, u64 addr)
{
	switch (block->kind) {
	case HOSTWALK_PAGE_ORDER0:
		return hostwalk_fill_order0(block);
	case HOSTWALK_PAGE_COMPOUND:
	case HOSTWALK_PAGE_SPLIT:
	case HOSTWALK_PAGE_UNSPLIT:
		return hostwalk_fill_block(block);
	case HOSTWALK_PAGE_ZERO:
		return hostwalk_fill_zero(block);
	case HOSTWALK_PAGE_SLAB:
		return hostwalk_fill_slab(block);
	case HOSTWALK_PAGE_ANON:
	case HOSTWALK_PAGE_MAPPED:
		return hostwalk_fill_mapped(block, addr);
	default:
		return -EINVAL;
	}
}

static void hostwalk_block_put(struct hostwalk_block *block)
{
	u32 i;

	switch (block->kind) {
	case HOSTWALK_PAGE_ORDER0:
	case HOSTWALK_PAGE_SPLIT:
	case HOSTWALK_PAGE_ANON:
	case HOSTWALK_PAGE_MAPPED:
		for (i = 0; i < block->nr && block->pages[i]; i++)
			put_page(block->pages[i]);
		break;
	case HOSTWALK_PAGE_COMPOUND:
	case HOSTWALK_PAGE_UNSPLIT:
		if (block->pages[0])
			__free_pages(block->pages[0], block->order);
		break;
	case HOSTWALK_PAGE_SLAB:
		kfree(block->object);
		break;
	}
}

void hostwalk_block_free(struct hostwalk_block *block)
{
	hostwalk_block_put(block);
	kvfree(block->pages);
	kfree(block);
}

static struct hostwalk_block *hostwalk_block_make(const struct hostwalk_alloc *alloc)
{
	bool ordered = hostwalk_kind_has_order(alloc->kind);
	u32 nr = ordered ? 1u << alloc->order : alloc->nr;
	struct hostwalk_block *block;
	int ret;

	block = kzalloc(sizeof(*block), GFP_KERNEL);
	if (!block)
		return ERR_PTR(-ENOMEM);
	block->kind = alloc->kind;
	block->order = ordered ? alloc->order : 0;
	block->nr = nr;
	block->pages = kvcalloc(nr, sizeof(*block->pages), GFP_KERNEL);
	ret = block->pages ? hostwalk_block_fill(block, alloc->addr) : -ENOMEM;
	if (!ret)
		return block;
	if (block->pages)
		hostwalk_block_put(block);
	kvfree(block->pages);
	kfree(block);
	return ERR_PTR(ret);
}

long hostwalk_alloc(struct hostwalk_file *file, struct hostwalk_alloc *alloc)
{
	struct hostwalk_block *block;
	int ret;

	if (hostwalk_kind_has_order(alloc->kind) ?
	    alloc->order > HOSTWALK_MAX_PAGE_ORDER :
	    !alloc->nr || alloc->nr > HOSTWALK_PAGES_MAX)
		return -EINVAL;
	block = hostwalk_block_make(alloc);
	if (IS_ERR(block))
		return PTR_ERR(block);
	ret = hostwalk_put_pfns(alloc->pfns, block->pages, block->nr);
	if (!ret)
		ret = xa_alloc(&file->blocks, &alloc->handle, block, xa_limit_31b, GFP_KERNEL);
	if (ret)
		hostwalk_block_free(block);
	return ret;
}

/* Does a fault handler have these pages to insert? Needs plan_lock. */
static bool hostwalk_block_is_planned(struct hostwalk_file *file,
				      const struct hostwalk_block *block)
{
	const struct hostwalk_plan *plan;
	bool planned = false;

	list_for_each_entry(plan, &file->plans, node)
		planned |= plan->block == block &&
			   (plan == file->armed || plan->in.when == HOSTWALK_WHEN_FAULT);
	return planned;
}

/* Needs plan_lock. A mapping without references would show freed memory. */
static long hostwalk_free_allowed(struct hostwalk_file *file, const struct hostwalk_block *block)
{
	if (!block)
		return -ENOENT;
	if (block->users || hostwalk_block_is_planned(file, block))
		return -EBUSY;
	return block->uncounted && !hostwalk_allow_bug ? -EPERM : 0;
}

long hostwalk_free(struct hostwalk_file *file, const struct hostwalk_free *free)
{
	struct hostwalk_block *block;
	long ret;

	if (free->reserved)
		return -EINVAL;
	spin_lock(&file->plan_lock);
	block = xa_load(&file->blocks, free->handle);
	ret = hostwalk_free_allowed(file, block);
	if (!ret)
		xa_erase(&file->blocks, free->handle);
	spin_unlock(&file->plan_lock);
	if (!ret)
		hostwalk_block_free(block);
	return ret;
}
