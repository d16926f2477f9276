// SPDX-License-Identifier: GPL-2.0
/* vm_insert_page(), its family, and the family of remap_pfn_range(). */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "compat.h"
#include "hostwalk.h"

/* Does the call take a protection of its own? */
static bool hostwalk_takes_prot(u32 call)
{
	return call == HOSTWALK_REMAP_PFN_RANGE || call == HOSTWALK_VMF_INSERT_PFN_PROT;
}

static pgprot_t hostwalk_prot(const struct hostwalk_plan *plan, const struct vm_area_struct *vma)
{
	u32 options = plan->in.options;
	pgprot_t prot = vma->vm_page_prot;

	if (options & HOSTWALK_INSERT_READONLY)
		prot = vm_get_page_prot(vma->vm_flags & ~VM_WRITE);
	if (options & HOSTWALK_INSERT_NONCACHED)
		prot = pgprot_noncached(prot);
	if (options & HOSTWALK_INSERT_WRITECOMBINE)
		prot = pgprot_writecombine(prot);
	return prot;
}

static long hostwalk_insert_one_by_one(struct hostwalk_run *run)
{
	u32 i, nr = run->plan->in.nr;
	int ret = 0;

	for (i = 0; i < nr && !ret; i++)
		ret = vm_insert_page(run->vma, run->addr + i * PAGE_SIZE, run->pages[i]);
	run->num = nr - i + !!ret;
	return ret;
}

static long hostwalk_insert_batch(struct hostwalk_run *run)
{
	unsigned long num = run->plan->in.nr;
	int ret = vm_insert_pages(run->vma, run->addr, run->pages, &num);

	run->num = num;
	return ret;
}

static vm_fault_t hostwalk_vmf_insert(struct hostwalk_run *run, u32 i)
{
	unsigned long addr = run->addr + i * PAGE_SIZE;
	unsigned long pfn = page_to_pfn(run->pages[i]);

	if (run->plan->in.call == HOSTWALK_VMF_INSERT_PFN)
		return vmf_insert_pfn(run->vma, addr, pfn);
	if (run->plan->in.call == HOSTWALK_VMF_INSERT_PFN_PROT)
		return vmf_insert_pfn_prot(run->vma, addr, pfn,
					   hostwalk_prot(run->plan, run->vma));
	return hostwalk_vmf_insert_mixed(run->vma, addr, pfn);
}

static long hostwalk_vmf_one_by_one(struct hostwalk_run *run)
{
	u32 i, nr = run->plan->in.nr;
	vm_fault_t fault = VM_FAULT_NOPAGE;

	for (i = 0; i < nr && fault == VM_FAULT_NOPAGE; i++)
		fault = hostwalk_vmf_insert(run, i);
	run->num = nr - i + (fault != VM_FAULT_NOPAGE);
	return (__force long)fault;
}

static int hostwalk_insert_whole(struct hostwalk_run *run)
{
	struct vm_area_struct *vma = run->vma;
	u32 nr = run->plan->in.nr;

	switch (run->plan->in.call) {
	case HOSTWALK_VM_MAP_PAGES:
		return vm_map_pages(vma, run->pages, nr);
	case HOSTWALK_VM_MAP_PAGES_ZERO:
		return vm_map_pages_zero(vma, run->pages, nr);
	case HOSTWALK_VM_IOMAP_MEMORY:
		return vm_iomap_memory(vma, hostwalk_run_phys(run), hostwalk_run_size(run));
	default:
		return remap_pfn_range(vma, run->addr, page_to_pfn(run->pages[0]),
				       hostwalk_run_size(run), hostwalk_prot(run->plan, vma));
	}
}

/* What the call returned: an errno, or a vm_fault_t for the vmf_insert calls. */
static long hostwalk_run(struct hostwalk_run *run)
{
	int ret;

	run->num = run->plan->in.nr;
	if (hostwalk_run_crashes(run) && !hostwalk_allow_bug)
		return -EPERM;
	switch (run->plan->in.call) {
	case HOSTWALK_VM_INSERT_PAGE:
		return hostwalk_insert_one_by_one(run);
	case HOSTWALK_VM_INSERT_PAGES:
		return hostwalk_insert_batch(run);
	case HOSTWALK_VMF_INSERT_PFN:
	case HOSTWALK_VMF_INSERT_MIXED:
	case HOSTWALK_VMF_INSERT_PFN_PROT:
		return hostwalk_vmf_one_by_one(run);
	default:
		run->plan->block->uncounted |= hostwalk_is_remap(run->plan->in.call);
		ret = hostwalk_insert_whole(run);
		run->num = ret ? run->plan->in.nr : 0;
		return ret;
	}
}

/* Where the mapping starts, or started before it was split. */
static unsigned long hostwalk_origin(const struct hostwalk_plan *plan,
				     const struct vm_area_struct *vma)
{
	return vma->vm_start - ((vma->vm_pgoff - plan->vm_pgoff) << PAGE_SHIFT);
}

static void hostwalk_report(struct hostwalk_file *file, long ret, u64 num)
{
	spin_lock(&file->plan_lock);
	file->result.runs++;
	file->result.ret = ret;
	file->result.num = num;
	spin_unlock(&file->plan_lock);
}

static vm_fault_t hostwalk_fault_of(const struct hostwalk_plan *plan, long ret)
{
	if (hostwalk_is_vmf(plan->in.call) && ret >= 0)
		return (__force vm_fault_t)ret;
	if (!ret || ret == -EBUSY)
		return VM_FAULT_NOPAGE;
	return ret == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

static vm_fault_t hostwalk_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct hostwalk_plan *plan = vma->vm_private_data;
	struct hostwalk_run run = {
		.plan = plan, .vma = vma, .when = HOSTWALK_WHEN_FAULT,
	};
	vm_fault_t fault;
	long ret;

	if (!plan)
		return VM_FAULT_SIGBUS;
	run.addr = hostwalk_origin(plan, vma) + plan->in.offset;
	run.pages = plan->block->pages + plan->in.first;
	ret = hostwalk_run(&run);
	hostwalk_report(plan->file, ret, run.num);
	fault = hostwalk_fault_of(plan, ret);
	/* Without an entry there the access would fault again, for ever. */
	if (fault == VM_FAULT_NOPAGE && !hostwalk_is_map_pages(plan->in.call) &&
	    vmf->address - (run.addr & PAGE_MASK) >= hostwalk_run_size(&run))
		return VM_FAULT_SIGBUS;
	return fault;
}

static const struct vm_operations_struct hostwalk_vm_ops = {
	.fault = hostwalk_fault,
};

static void hostwalk_prepare(const struct hostwalk_plan *plan, struct vm_area_struct *vma)
{
	u32 options = plan->in.options;

	if (options & HOSTWALK_INSERT_MIXEDMAP)
		hostwalk_vm_flags_set(vma, VM_MIXEDMAP);
	if (options & HOSTWALK_INSERT_PFNMAP)
		hostwalk_vm_flags_set(vma, VM_PFNMAP);
	if (!hostwalk_takes_prot(plan->in.call))
		vma->vm_page_prot = hostwalk_prot(plan, vma);
}

static long hostwalk_run_in(struct hostwalk_plan *plan, struct vm_area_struct *vma, u64 *num)
{
	struct hostwalk_run run = {
		.plan = plan,
		.vma = vma,
		.pages = plan->block->pages + plan->in.first,
		.addr = vma->vm_start + plan->in.offset,
		.when = plan->in.when,
	};
	long ret;

	hostwalk_prepare(plan, vma);
	ret = hostwalk_run(&run);
	*num = run.num;
	return ret;
}

/* HOSTWALK_IOC_FREE leaves a block alone until it is dropped. */
static struct hostwalk_block *hostwalk_block_hold(struct hostwalk_file *file, u32 handle)
{
	struct hostwalk_block *block;

	spin_lock(&file->plan_lock);
	block = xa_load(&file->blocks, handle);
	if (block)
		block->users++;
	spin_unlock(&file->plan_lock);
	return block;
}

static void hostwalk_block_drop(struct hostwalk_file *file, struct hostwalk_block *block)
{
	spin_lock(&file->plan_lock);
	block->users--;
	spin_unlock(&file->plan_lock);
}

/* The armed plan, its block held; NULL if there is none. */
static struct hostwalk_plan *hostwalk_disarm(struct hostwalk_file *file)
{
	struct hostwalk_plan *plan;

	spin_lock(&file->plan_lock);
	plan = file->armed;
	file->armed = NULL;
	if (plan)
		plan->block->users++;
	spin_unlock(&file->plan_lock);
	return plan;
}

int hostwalk_mmap(struct hostwalk_file *file, struct vm_area_struct *vma)
{
	struct hostwalk_plan *plan = hostwalk_disarm(file);
	long ret = 0;
	u64 num;

	/* Never without: a mapping that has no vm_ops is an anonymous one. */
	vma->vm_ops = &hostwalk_vm_ops;
	if (!plan)
		return 0;
	plan->vm_pgoff = vma->vm_pgoff;
	if (plan->in.when == HOSTWALK_WHEN_FAULT) {
		hostwalk_prepare(plan, vma);
		vma->vm_private_data = plan;
	} else {
		ret = hostwalk_run_in(plan, vma, &num);
		hostwalk_report(file, ret, num);
	}
	hostwalk_block_drop(file, plan->block);
	return plan->in.options & HOSTWALK_INSERT_KEEP ? 0 : ret;
}

static bool hostwalk_is_ours(struct hostwalk_file *file, const struct vm_area_struct *vma)
{
	return vma->vm_ops == &hostwalk_vm_ops && vma->vm_file->private_data == file;
}

static long hostwalk_insert_now(struct hostwalk_file *file, struct hostwalk_plan *plan,
				struct hostwalk_insert *in)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	long ret = -EINVAL;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	vma = find_vma(mm, in->addr);
	if (vma && vma->vm_start <= in->addr && hostwalk_is_ours(file, vma)) {
		in->ret = hostwalk_run_in(plan, vma, &in->num);
		ret = in->ret == -EPERM ? -EPERM : 0;
	}
	mmap_write_unlock(mm);
	return ret;
}

/* Owned by the file from here on: a mapping may keep a pointer to it. */
static void hostwalk_arm(struct hostwalk_file *file, struct hostwalk_plan *plan)
{
	spin_lock(&file->plan_lock);
	list_add(&plan->node, &file->plans);
	file->armed = plan;
	file->result = (struct hostwalk_insert_result){};
	spin_unlock(&file->plan_lock);
}

/* A range of pfns is inserted by its first, so the pages must be one. */
static bool hostwalk_is_contiguous(struct page **pages, u32 nr)
{
	u32 i;

	for (i = 1; i < nr; i++)
		if (page_to_pfn(pages[i]) != page_to_pfn(pages[0]) + i)
			return false;
	return true;
}

#define HOSTWALK_INSERT_OPTIONS	(HOSTWALK_INSERT_KEEP | HOSTWALK_INSERT_MIXEDMAP |	\
				 HOSTWALK_INSERT_PFNMAP | HOSTWALK_INSERT_READONLY |	\
				 HOSTWALK_INSERT_NONCACHED | HOSTWALK_INSERT_WRITECOMBINE)

static bool hostwalk_insert_valid(const struct hostwalk_insert *in,
				  const struct hostwalk_block *block)
{
	if (in->call < HOSTWALK_VM_INSERT_PAGE || in->call > HOSTWALK_VM_IOMAP_MEMORY ||
	    in->when < HOSTWALK_WHEN_MMAP || in->when > HOSTWALK_WHEN_FAULT)
		return false;
	if (hostwalk_is_vmf(in->call) && in->when != HOSTWALK_WHEN_FAULT)
		return false;
	if (in->options & ~HOSTWALK_INSERT_OPTIONS)
		return false;
	if (in->first >= block->nr || in->nr > block->nr - in->first)
		return false;
	return !hostwalk_is_remap(in->call) ||
	       hostwalk_is_contiguous(block->pages + in->first, in->nr);
}

static long hostwalk_insert_block(struct hostwalk_file *file, struct hostwalk_block *block,
				  struct hostwalk_insert *in)
{
	struct hostwalk_plan *plan;
	long ret;

	if (!hostwalk_insert_valid(in, block))
		return -EINVAL;
	plan = kzalloc(sizeof(*plan), GFP_KERNEL);
	if (!plan)
		return -ENOMEM;
	plan->file = file;
	plan->block = block;
	plan->in = *in;
	if (in->when != HOSTWALK_WHEN_NOW) {
		hostwalk_arm(file, plan);
		return 0;
	}
	ret = hostwalk_insert_now(file, plan, in);
	kfree(plan);
	return ret;
}

long hostwalk_insert(struct hostwalk_file *file, struct hostwalk_insert *in)
{
	struct hostwalk_block *block = hostwalk_block_hold(file, in->alloc);
	long ret;

	if (!block)
		return -ENOENT;
	ret = hostwalk_insert_block(file, block, in);
	hostwalk_block_drop(file, block);
	return ret;
}
