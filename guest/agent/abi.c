// SPDX-License-Identifier: GPL-2.0
/*
 * hostwalk_uapi.h as numbers: the host reads this section of the file, nobody
 * reads it at run time.
 */
#define HOSTWALK_TABLE_SECTION ".hostwalk.abi"

#include "hostwalk_table.h"
#include "hostwalk_uapi.h"

#define C(name) HOSTWALK_ENTRY(#name, name)
#define S(tag) HOSTWALK_SIZEOF(struct tag)
#define IS_SIGNED(type) ((type)-1 < (type)1)

/* A member; and a member that is an array, with the size of its elements. */
#define M(tag, member)							\
	HOSTWALK_MEMBER(struct tag, member);				\
	HOSTWALK_ENTRY("signed(struct " #tag "." #member ")",		\
		       IS_SIGNED(__typeof__(((struct tag *)0)->member)))
#define A(tag, member)							\
	HOSTWALK_MEMBER(struct tag, member);				\
	HOSTWALK_ENTRY("sizeof(struct " #tag "." #member "[0])",	\
		       sizeof(((struct tag *)0)->member[0]));		\
	HOSTWALK_ENTRY("signed(struct " #tag "." #member ")",		\
		       IS_SIGNED(__typeof__(((struct tag *)0)->member[0])))

C(HOSTWALK_ABI_VERSION); C(HOSTWALK_MAGIC); C(HOSTWALK_ARGS); C(HOSTWALK_PAYLOAD_MAX);
C(HOSTWALK_COPY_MAX); C(HOSTWALK_IOC_MAGIC); C(HOSTWALK_GUP_NO_PAGES);
C(HOSTWALK_GUP_NO_LOCKED); C(HOSTWALK_GUP_WRITE_LOCK);
C(HOSTWALK_INSERT_KEEP); C(HOSTWALK_INSERT_MIXEDMAP);
C(HOSTWALK_INSERT_PFNMAP); C(HOSTWALK_INSERT_READONLY); C(HOSTWALK_INSERT_NONCACHED);
C(HOSTWALK_INSERT_WRITECOMBINE); C(HOSTWALK_IOC_FREE); C(HOSTWALK_IOC_GUP); C(HOSTWALK_IOC_RELEASE);
C(HOSTWALK_IOC_ALLOC); C(HOSTWALK_IOC_INSERT); C(HOSTWALK_IOC_RESULT);
C(HOSTWALK_IOC_SPIN); C(HOSTWALK_IOC_OOPS); C(HOSTWALK_IOC_WARN);

C(HOSTWALK_OK); C(HOSTWALK_FAULT); C(HOSTWALK_BAD_OP); C(HOSTWALK_NO_SUBJECT);
C(HOSTWALK_OP_HELLO); C(HOSTWALK_OP_SPAWN); C(HOSTWALK_OP_REAP); C(HOSTWALK_OP_CRASH);
C(HOSTWALK_OP_SYSCALL); C(HOSTWALK_OP_FORK); C(HOSTWALK_OP_THREAD); C(HOSTWALK_OP_LOAD);
C(HOSTWALK_OP_STORE); C(HOSTWALK_OP_EXEC); C(HOSTWALK_OP_PEEK); C(HOSTWALK_OP_POKE);
C(HOSTWALK_OP_SPIN); C(HOSTWALK_CRASH_PANIC); C(HOSTWALK_CRASH_INIT_EXIT);
C(HOSTWALK_CRASH_MUTE); C(HOSTWALK_GET_USER_PAGES); C(HOSTWALK_GET_USER_PAGES_FAST);
C(HOSTWALK_GET_USER_PAGES_FAST_ONLY); C(HOSTWALK_GET_USER_PAGES_REMOTE);
C(HOSTWALK_GET_USER_PAGES_UNLOCKED); C(HOSTWALK_PIN_USER_PAGES);
C(HOSTWALK_PIN_USER_PAGES_FAST); C(HOSTWALK_PIN_USER_PAGES_REMOTE);
C(HOSTWALK_PIN_USER_PAGES_UNLOCKED); C(HOSTWALK_PUT_PAGE);
C(HOSTWALK_SET_PAGE_DIRTY_LOCK); C(HOSTWALK_UNPIN_USER_PAGE);
C(HOSTWALK_UNPIN_USER_PAGES_DIRTY_LOCK); C(HOSTWALK_SET_PAGE_DIRTY);
C(HOSTWALK_UNPIN_USER_PAGES); C(HOSTWALK_UNPIN_USER_PAGES_ALL_DIRTY);
C(HOSTWALK_UNPIN_USER_PAGE_RANGE_DIRTY_LOCK); C(HOSTWALK_UNPIN_USER_PAGES_ERROR);
C(HOSTWALK_PAGE_ORDER0);
C(HOSTWALK_PAGE_COMPOUND); C(HOSTWALK_PAGE_SPLIT); C(HOSTWALK_PAGE_UNSPLIT);
C(HOSTWALK_PAGE_ZERO); C(HOSTWALK_PAGE_SLAB); C(HOSTWALK_PAGE_ANON);
C(HOSTWALK_PAGE_MAPPED);
C(HOSTWALK_VM_INSERT_PAGE); C(HOSTWALK_VM_INSERT_PAGES); C(HOSTWALK_VM_MAP_PAGES);
C(HOSTWALK_VM_MAP_PAGES_ZERO); C(HOSTWALK_REMAP_PFN_RANGE); C(HOSTWALK_VMF_INSERT_PFN);
C(HOSTWALK_VMF_INSERT_MIXED); C(HOSTWALK_VMF_INSERT_PFN_PROT);
C(HOSTWALK_VM_IOMAP_MEMORY); C(HOSTWALK_WHEN_MMAP); C(HOSTWALK_WHEN_NOW);
C(HOSTWALK_WHEN_FAULT);

S(hostwalk_frame);
M(hostwalk_frame, magic); M(hostwalk_frame, op); M(hostwalk_frame, seq);
M(hostwalk_frame, subject); M(hostwalk_frame, size); M(hostwalk_frame, status);
A(hostwalk_frame, args);

S(hostwalk_gup);
M(hostwalk_gup, call); M(hostwalk_gup, gup_flags); M(hostwalk_gup, start);
M(hostwalk_gup, nr_pages); M(hostwalk_gup, pid); M(hostwalk_gup, options);
M(hostwalk_gup, pfns); M(hostwalk_gup, capacity); M(hostwalk_gup, handle);
M(hostwalk_gup, ret); M(hostwalk_gup, filled); M(hostwalk_gup, locked);

S(hostwalk_release);
M(hostwalk_release, handle); M(hostwalk_release, how); M(hostwalk_release, first);
M(hostwalk_release, count);

S(hostwalk_alloc);
M(hostwalk_alloc, kind); M(hostwalk_alloc, order); M(hostwalk_alloc, nr);
M(hostwalk_alloc, handle); M(hostwalk_alloc, addr); M(hostwalk_alloc, pfns);

S(hostwalk_free);
M(hostwalk_free, handle); M(hostwalk_free, reserved);

S(hostwalk_insert);
M(hostwalk_insert, call); M(hostwalk_insert, when); M(hostwalk_insert, alloc);
M(hostwalk_insert, options); M(hostwalk_insert, first); M(hostwalk_insert, nr);
M(hostwalk_insert, offset); M(hostwalk_insert, addr); M(hostwalk_insert, ret);
M(hostwalk_insert, num);

S(hostwalk_insert_result);
M(hostwalk_insert_result, runs); M(hostwalk_insert_result, reserved);
M(hostwalk_insert_result, ret); M(hostwalk_insert_result, num);
