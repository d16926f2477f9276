// SPDX-License-Identifier: GPL-2.0
/* get_user_pages() and its family. */
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "hostwalk.h"

/* No struct page is there, and no call reads the array. */
#define HOSTWALK_POISON		((struct page *)0x7001)

static bool hostwalk_call_pins(u32 call)
{
	return call >= HOSTWALK_PIN_USER_PAGES;
}

static bool hostwalk_call_is_fast(u32 call)
{
	return call == HOSTWALK_GET_USER_PAGES_FAST ||
	       call == HOSTWALK_GET_USER_PAGES_FAST_ONLY ||
	       call == HOSTWALK_PIN_USER_PAGES_FAST;
}

static bool hostwalk_call_is_remote(u32 call)
{
	return call == HOSTWALK_GET_USER_PAGES_REMOTE ||
	       call == HOSTWALK_PIN_USER_PAGES_REMOTE;
}

/* End of the accessible mappings that start at addr without a gap. */
static unsigned long hostwalk_accessible_end(struct mm_struct *mm, unsigned long addr,
					     unsigned int gup_flags)
{
	struct vm_area_struct *vma = find_vma(mm, addr);

	while (vma && vma->vm_start <= addr) {
		if (!(vma->vm_flags & VM_ACCESS_FLAGS) && !(gup_flags & FOLL_FORCE))
			break;
		addr = vma->vm_end;
		vma = find_vma(mm, addr);
	}
	return addr;
}

/*
 * With nr_pages == 0 the fast calls go on until they meet an entry they may not
 * follow, past the end of the table if there is none (since 5.11), and then
 * slowly to the first address without access. Let them, if that is in the table
 * of start and all pages on the way fit into pages[].
 */
static bool hostwalk_zero_overruns(const struct hostwalk_gup *gup)
{
	unsigned long start = untagged_addr(gup->start) & PAGE_MASK;
	struct mm_struct *mm = current->mm;
	unsigned long end;
	bool overruns;

	mmap_read_lock(mm);
	end = hostwalk_accessible_end(mm, start, gup->gup_flags);
	overruns = end != start && hostwalk_has_pte_table(mm, start) &&
		   ((start ^ end) & PMD_MASK || (end - start) >> PAGE_SHIFT > gup->capacity);
	mmap_read_unlock(mm);
	return overruns;
}

#if HOSTWALK_GUP_CHECKS_ARGS
static bool hostwalk_gup_unchecked(const struct hostwalk_gup *gup)
{
	return false;
}
#else
/* No check of pages == NULL and of FOLL_PIN in these calls. */
static bool hostwalk_gup_unchecked(const struct hostwalk_gup *gup)
{
	if (gup->options & HOSTWALK_GUP_NO_PAGES)
		return gup->gup_flags & FOLL_GET ||
		       gup->call == HOSTWALK_GET_USER_PAGES_FAST ||
		       gup->call == HOSTWALK_GET_USER_PAGES_FAST_ONLY;
	return gup->gup_flags & FOLL_PIN &&
	       (gup->call == HOSTWALK_GET_USER_PAGES_UNLOCKED ||
		gup->call == HOSTWALK_GET_USER_PAGES_FAST_ONLY);
}
#endif

/* To all but the fast calls a negative number is as many pages as there are. */
static bool hostwalk_negative_overruns(const struct hostwalk_gup *gup)
{
	unsigned long start = untagged_addr(gup->start) & PAGE_MASK;
	struct mm_struct *mm = current->mm;
	bool overruns;

	if (hostwalk_call_is_remote(gup->call))
		return true;
	mmap_read_lock(mm);
	overruns = (hostwalk_accessible_end(mm, start, gup->gup_flags) - start) >> PAGE_SHIFT >
		   gup->capacity;
	mmap_read_unlock(mm);
	return overruns;
}

/* Would the call write past pages[], or take what cannot be given back? */
static bool hostwalk_gup_damages(const struct hostwalk_gup *gup)
{
	bool fast = hostwalk_call_is_fast(gup->call);
	s64 nr = fast ? (int)gup->nr_pages : gup->nr_pages;

	if (hostwalk_gup_unchecked(gup))
		return true;
	if (gup->options & HOSTWALK_GUP_NO_PAGES)
		return false;
	if (fast && !nr)
		return hostwalk_zero_overruns(gup);
	/* The fast calls refuse a negative number. */
	if (nr < 0)
		return !fast && hostwalk_negative_overruns(gup);
	return nr > gup->capacity;
}

static long hostwalk_gup_remote(struct hostwalk_gup *gup, struct mm_struct *mm,
				struct page **pages)
{
	int locked = 1, *lockedp = gup->options & HOSTWALK_GUP_NO_LOCKED ? NULL : &locked;
	long ret;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	if (gup->call == HOSTWALK_GET_USER_PAGES_REMOTE)
		ret = hostwalk_get_user_pages_remote(mm, gup->start, gup->nr_pages,
						     gup->gup_flags, pages, lockedp);
	else
		ret = hostwalk_pin_user_pages_remote(mm, gup->start, gup->nr_pages,
						     gup->gup_flags, pages, lockedp);
	if (locked)
		mmap_read_unlock(mm);
	if (lockedp)
		gup->locked = locked;
	return ret;
}

static int hostwalk_gup_lock(const struct hostwalk_gup *gup, struct mm_struct *mm)
{
	if (gup->options & HOSTWALK_GUP_WRITE_LOCK)
		return mmap_write_lock_killable(mm);
	return mmap_read_lock_killable(mm);
}

static void hostwalk_gup_unlock(const struct hostwalk_gup *gup, struct mm_struct *mm)
{
	if (gup->options & HOSTWALK_GUP_WRITE_LOCK)
		mmap_write_unlock(mm);
	else
		mmap_read_unlock(mm);
}

static long hostwalk_gup_local(struct hostwalk_gup *gup, struct page **pages)
{
	struct mm_struct *mm = current->mm;
	long ret;

	if (hostwalk_gup_lock(gup, mm))
		return -EINTR;
	if (gup->call == HOSTWALK_GET_USER_PAGES)
		ret = hostwalk_get_user_pages(gup->start, gup->nr_pages, gup->gup_flags, pages);
	else
		ret = hostwalk_pin_user_pages(gup->start, gup->nr_pages, gup->gup_flags, pages);
	hostwalk_gup_unlock(gup, mm);
	return ret;
}

static long hostwalk_gup_fast(const struct hostwalk_gup *gup, struct page **pages)
{
	switch (gup->call) {
	case HOSTWALK_GET_USER_PAGES_FAST:
		return get_user_pages_fast(gup->start, gup->nr_pages, gup->gup_flags, pages);
	case HOSTWALK_GET_USER_PAGES_FAST_ONLY:
		return get_user_pages_fast_only(gup->start, gup->nr_pages, gup->gup_flags, pages);
	default:
		return pin_user_pages_fast(gup->start, gup->nr_pages, gup->gup_flags, pages);
	}
}

/*
 * Where the walk without the lock does not do, this would wait for itself.
 * lockdep takes the mere possibility for that, so it does not look.
 */
static long hostwalk_gup_fast_locked(const struct hostwalk_gup *gup, struct page **pages)
{
	struct mm_struct *mm = current->mm;
	long ret;

	if (hostwalk_gup_lock(gup, mm))
		return -EINTR;
	lockdep_off();
	ret = hostwalk_gup_fast(gup, pages);
	lockdep_on();
	hostwalk_gup_unlock(gup, mm);
	return ret;
}

static long hostwalk_gup_call(struct hostwalk_gup *gup, struct mm_struct *mm, struct page **pages)
{
	switch (gup->call) {
	case HOSTWALK_GET_USER_PAGES:
	case HOSTWALK_PIN_USER_PAGES:
		return hostwalk_gup_local(gup, pages);
	case HOSTWALK_GET_USER_PAGES_REMOTE:
	case HOSTWALK_PIN_USER_PAGES_REMOTE:
		return hostwalk_gup_remote(gup, mm, pages);
	case HOSTWALK_GET_USER_PAGES_FAST:
	case HOSTWALK_GET_USER_PAGES_FAST_ONLY:
	case HOSTWALK_PIN_USER_PAGES_FAST:
		if (gup->options & HOSTWALK_GUP_WRITE_LOCK)
			return hostwalk_gup_fast_locked(gup, pages);
		return hostwalk_gup_fast(gup, pages);
	case HOSTWALK_GET_USER_PAGES_UNLOCKED:
		return get_user_pages_unlocked(gup->start, gup->nr_pages, pages, gup->gup_flags);
	default:
		return pin_user_pages_unlocked(gup->start, gup->nr_pages, pages, gup->gup_flags);
	}
}

/* The caller drops it with mmput(). */
static struct mm_struct *hostwalk_mm_of(pid_t nr)
{
	struct task_struct *task;
	struct mm_struct *mm;
	struct pid *pid;

	if (!nr)
		return get_task_mm(current);
	pid = find_get_pid(nr);
	task = get_pid_task(pid, PIDTYPE_PID);
	put_pid(pid);
	if (!task)
		return NULL;
	mm = get_task_mm(task);
	put_task_struct(task);
	return mm;
}

static int hostwalk_gup_run(struct hostwalk_gup *gup, struct page **pages)
{
	struct mm_struct *mm = NULL;

	if (hostwalk_call_is_remote(gup->call)) {
		mm = hostwalk_mm_of(gup->pid);
		if (!mm)
			return -ESRCH;
	}
	gup->ret = hostwalk_gup_call(gup, mm, pages);
	if (mm)
		mmput(mm);
	return 0;
}

static struct hostwalk_pins *hostwalk_pins_make(const struct hostwalk_gup *gup)
{
	struct hostwalk_pins *pins = kzalloc(sizeof(*pins), GFP_KERNEL);
	u32 i;

	if (!pins)
		return NULL;
	pins->pages = kvmalloc_array(gup->capacity + 1, sizeof(*pins->pages), GFP_KERNEL);
	if (!pins->pages) {
		kfree(pins);
		return NULL;
	}
	for (i = 0; i <= gup->capacity; i++)
		pins->pages[i] = HOSTWALK_POISON;
	return pins;
}

/* Only what the call says it handed out is held: it may leave more in pages[]. */
static void hostwalk_pins_count(struct hostwalk_pins *pins, struct hostwalk_gup *gup)
{
	while (gup->filled < gup->capacity && pins->pages[gup->filled] != HOSTWALK_POISON)
		gup->filled++;
	pins->pinned = hostwalk_call_pins(gup->call);
	pins->nr = gup->ret > 0 ? min_t(s64, gup->ret, gup->filled) : 0;
}

long hostwalk_gup(struct hostwalk_file *file, struct hostwalk_gup *gup)
{
	struct hostwalk_pins *pins;
	long ret;

	if (gup->call < HOSTWALK_GET_USER_PAGES || gup->call > HOSTWALK_PIN_USER_PAGES_UNLOCKED ||
	    gup->options & ~(HOSTWALK_GUP_NO_PAGES | HOSTWALK_GUP_NO_LOCKED |
			     HOSTWALK_GUP_WRITE_LOCK) ||
	    gup->capacity > HOSTWALK_PAGES_MAX)
		return -EINVAL;
	if (hostwalk_gup_damages(gup) && !hostwalk_allow_bug)
		return -EPERM;
	gup->handle = 0;
	gup->filled = 0;
	gup->locked = -1;
	pins = hostwalk_pins_make(gup);
	if (!pins)
		return -ENOMEM;
	ret = hostwalk_gup_run(gup, gup->options & HOSTWALK_GUP_NO_PAGES ? NULL : pins->pages);
	if (!ret) {
		hostwalk_pins_count(pins, gup);
		ret = hostwalk_put_pfns(gup->pfns, pins->pages, gup->filled);
	}
	if (!ret && pins->nr)
		ret = xa_alloc(&file->pins, &gup->handle, pins, xa_limit_31b, GFP_KERNEL);
	if (ret || !pins->nr)
		hostwalk_pins_free(pins);
	return ret;
}
