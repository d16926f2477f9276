// SPDX-License-Identifier: GPL-2.0
/* The ways to give back what get_user_pages() and pin_user_pages() returned. */
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "hostwalk.h"

static bool hostwalk_how_unpins(u32 how)
{
	return how == HOSTWALK_UNPIN_USER_PAGE || how >= HOSTWALK_UNPIN_USER_PAGES_DIRTY_LOCK;
}

/* One call for the whole run of pages, or one for each page? */
static bool hostwalk_how_is_whole(u32 how)
{
	return how >= HOSTWALK_UNPIN_USER_PAGES;
}

static void hostwalk_put(struct hostwalk_pins *pins, u32 index, u32 how)
{
	struct page *page = pins->pages[index];

	pins->pages[index] = NULL;
	switch (how) {
	case HOSTWALK_SET_PAGE_DIRTY:
		set_page_dirty(page);
		put_page(page);
		break;
	case HOSTWALK_SET_PAGE_DIRTY_LOCK:
		set_page_dirty_lock(page);
		fallthrough;
	case HOSTWALK_PUT_PAGE:
		put_page(page);
		break;
	case HOSTWALK_UNPIN_USER_PAGES_DIRTY_LOCK:
		unpin_user_pages_dirty_lock(&page, 1, true);
		break;
	default:
		unpin_user_page(page);
	}
}

static void hostwalk_put_whole(struct hostwalk_pins *pins, u32 first, u32 nr, u32 how)
{
	struct page **pages = pins->pages + first;

	switch (how) {
	case HOSTWALK_UNPIN_USER_PAGES_ERROR:
		unpin_user_pages(pages, -EFAULT);
		return;
	case HOSTWALK_UNPIN_USER_PAGES_ALL_DIRTY:
		unpin_user_pages_dirty_lock(pages, nr, true);
		break;
	case HOSTWALK_UNPIN_USER_PAGE_RANGE_DIRTY_LOCK:
		unpin_user_page_range_dirty_lock(*pages, nr, true);
		break;
	default:
		unpin_user_pages(pages, nr);
	}
	memset(pages, 0, nr * sizeof(*pages));
}

void hostwalk_pins_free(struct hostwalk_pins *pins)
{
	u32 i, how = pins->pinned ? HOSTWALK_UNPIN_USER_PAGE : HOSTWALK_PUT_PAGE;

	for (i = 0; i < pins->nr; i++)
		if (pins->pages[i])
			hostwalk_put(pins, i, how);
	kvfree(pins->pages);
	kfree(pins);
}

/* unpin_user_pages() skips pages that are NULL, since HOSTWALK_UNPIN_SKIPS_NULL. */
static bool hostwalk_how_skips_null(u32 how)
{
	return how == HOSTWALK_UNPIN_USER_PAGES && HOSTWALK_UNPIN_SKIPS_NULL;
}

/* gup_folio_next() looks at the entry behind a page, NULL or not. */
static bool hostwalk_null_crashes(const struct hostwalk_pins *pins, u32 first, u32 end)
{
	u32 i;

	for (i = first + 1; i < end; i++)
		if (pins->pages[i - 1] && !pins->pages[i])
			return true;
	return false;
}

/* Do the pages that the request names follow each other in memory? */
static bool hostwalk_pins_follow(const struct hostwalk_pins *pins, u32 first, u32 end)
{
	u32 i;

	for (i = first + 1; i < end; i++)
		if (page_to_pfn(pins->pages[i]) != page_to_pfn(pins->pages[i - 1]) + 1)
			return false;
	return true;
}

/* Is every page that the request names still held? */
static bool hostwalk_pins_hold(const struct hostwalk_pins *pins, u32 first, u32 count, u32 how)
{
	u32 i;

	if (first > pins->nr || count > pins->nr - first)
		return false;
	if (hostwalk_how_skips_null(how))
		return true;
	for (i = first; i < first + count; i++)
		if (!pins->pages[i])
			return false;
	return true;
}

static bool hostwalk_pins_are_all_put(const struct hostwalk_pins *pins)
{
	u32 i;

	for (i = 0; i < pins->nr; i++)
		if (pins->pages[i])
			return false;
	return true;
}

static void hostwalk_put_range(struct hostwalk_pins *pins, u32 first, u32 end, u32 how)
{
	u32 i;

	if (hostwalk_how_is_whole(how)) {
		hostwalk_put_whole(pins, first, end - first, how);
		return;
	}
	for (i = first; i < end; i++)
		if (pins->pages[i])
			hostwalk_put(pins, i, how);
}

static long hostwalk_release_locked(struct hostwalk_file *file,
				    const struct hostwalk_release *release)
{
	struct hostwalk_pins *pins = xa_load(&file->pins, release->handle);
	u32 end, count, how = release->how, first = release->first;

	if (!pins)
		return -ENOENT;
	count = release->count;
	if (!count && hostwalk_how_is_whole(how) && first < pins->nr)
		count = pins->nr - first;
	if (pins->pinned != hostwalk_how_unpins(how) ||
	    !hostwalk_pins_hold(pins, first, count, how))
		return -EINVAL;
	end = count ? first + count : pins->nr;
	if (how == HOSTWALK_UNPIN_USER_PAGE_RANGE_DIRTY_LOCK &&
	    !hostwalk_pins_follow(pins, first, end))
		return -EPERM;
	if (how == HOSTWALK_UNPIN_USER_PAGES && hostwalk_null_crashes(pins, first, end) &&
	    !hostwalk_allow_bug)
		return -EPERM;
	hostwalk_put_range(pins, first, end, how);
	if (hostwalk_pins_are_all_put(pins)) {
		xa_erase(&file->pins, release->handle);
		hostwalk_pins_free(pins);
	}
	return 0;
}

long hostwalk_release(struct hostwalk_file *file, const struct hostwalk_release *release)
{
	long ret;

	if (release->how < HOSTWALK_PUT_PAGE || release->how > HOSTWALK_UNPIN_USER_PAGES_ERROR)
		return -EINVAL;
	mutex_lock(&file->release_lock);
	ret = hostwalk_release_locked(file, release);
	mutex_unlock(&file->release_lock);
	return ret;
}
