/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The interface between the exerciser (a kernel module), the agent (a user
 * program, also PID 1) and the host. The host reads every number of it from
 * the compiled agent, see agent/abi.c.
 */
#ifndef _UAPI_HOSTWALK_H
#define _UAPI_HOSTWALK_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define HOSTWALK_ABI_VERSION	1
#define HOSTWALK_DEVICE		"/dev/hostwalk"
#define HOSTWALK_PORT		"hostwalk.agent"

/*
 * Host and agent: frames in both directions over a virtio-serial port.
 *
 * A request names a subject (0 is the agent itself); the reply repeats seq,
 * op and subject. Little endian on every architecture. size bytes of payload
 * follow the frame.
 */
#define HOSTWALK_MAGIC		0x4b4c5748u	/* "HWLK" */
#define HOSTWALK_ARGS		8
#define HOSTWALK_PAYLOAD_MAX	(1u << 20)
#define HOSTWALK_COPY_MAX	(1u << 16)	/* bytes of one PEEK or POKE */

struct hostwalk_frame {
	__u32 magic;
	__u32 op;
	__u32 seq;
	__u32 subject;
	__u32 size;
	__u32 status;			/* reply: enum hostwalk_status */
	__u64 args[HOSTWALK_ARGS];
};

enum hostwalk_status {
	HOSTWALK_OK = 0,
	/* A signal ended it; args: 0 signal, 1 si_code, 2 si_addr, 3 accesses before it. */
	HOSTWALK_FAULT,
	/* No such op, arguments that make no sense, or the subject is busy. */
	HOSTWALK_BAD_OP,
	/* It is dead, or died of this; args: 0 wait status, 1 pid. Both 0: it never was. */
	HOSTWALK_NO_SUBJECT,
};

enum hostwalk_op {
	/*
	 * To the agent (subject 0).
	 *
	 * HELLO  in: 0 number of the fork that this machine is, 0 if it is told nothing;
	 *        out: 0 abi version, 1 page size, 2 online cpus, 3 the number told last, 0 in a
	 *        machine that was booted; payload: uname release
	 * SPAWN  new subject; out: 0 its number, 1 pid, 2 scratch address, 3 scratch size
	 * REAP   in: 0 subject; kill it, or have it leave if it is a thread, and forget it;
	 *        out: 0 wait status, 1 pid
	 * CRASH  in: 0 enum hostwalk_crash; for tests of the host: no reply
	 */
	HOSTWALK_OP_HELLO = 1,
	HOSTWALK_OP_SPAWN,
	HOSTWALK_OP_REAP,
	HOSTWALK_OP_CRASH,

	/*
	 * To a subject.
	 *
	 * SYSCALL in: 0 number, 1..6 arguments, 7 bytes of scratch to send back; the payload goes
	 *         to scratch first; out: 0 what the kernel returned (-errno on failure);
	 *         payload: scratch[0 .. in args[7])
	 * FORK    fork; out: as SPAWN, for the child; on failure 0 zero, 1 -errno
	 * THREAD  new thread of this subject, a subject of its own; out: as FORK, 1 is the tid
	 * LOAD    in: 0 address, 1 stride, 2 count; a one-byte load at each;
	 *         out: 0 accesses done, 1 sum of the bytes
	 * STORE   in: 0 address, 1 stride, 2 count, 3 byte; out: 0 accesses done
	 * EXEC    in: 0 address; jumps to it and expects to return: the host puts a return
	 *         instruction there first, with POKE
	 * PEEK    in: 0 address, 1 size; out: payload: the bytes
	 * POKE    in: 0 address; payload: the bytes, which may be instructions
	 * SPIN    in: 0 milliseconds; busy on the CPU in user mode, so that the host can see this
	 *         subject's root in the CPU; the reply comes at the end
	 */
	HOSTWALK_OP_SYSCALL = 32,
	HOSTWALK_OP_FORK,
	HOSTWALK_OP_THREAD,
	HOSTWALK_OP_LOAD,
	HOSTWALK_OP_STORE,
	HOSTWALK_OP_EXEC,
	HOSTWALK_OP_PEEK,
	HOSTWALK_OP_POKE,
	HOSTWALK_OP_SPIN,
};

enum hostwalk_crash {
	HOSTWALK_CRASH_PANIC = 1,	/* sysrq c */
	HOSTWALK_CRASH_INIT_EXIT,	/* PID 1 exits */
	HOSTWALK_CRASH_MUTE,		/* the agent stops answering */
};

/*
 * Exerciser. One open file holds pages, references and mappings of its own,
 * and gives all of them back when it is closed; a mapping of it keeps it open.
 *
 * Misuse that the kernel answers with an error is passed on. What would be a
 * BUG or damage the kernel fails with EPERM, unless the module parameter
 * allow_bug is set. EINVAL and ENOENT (no such handle) are the exerciser's own.
 */
#define HOSTWALK_IOC_MAGIC	'H'

enum hostwalk_gup_call {
	HOSTWALK_GET_USER_PAGES = 1,
	HOSTWALK_GET_USER_PAGES_FAST,
	HOSTWALK_GET_USER_PAGES_FAST_ONLY,
	HOSTWALK_GET_USER_PAGES_REMOTE,
	HOSTWALK_GET_USER_PAGES_UNLOCKED,
	HOSTWALK_PIN_USER_PAGES,
	HOSTWALK_PIN_USER_PAGES_FAST,
	HOSTWALK_PIN_USER_PAGES_REMOTE,
	HOSTWALK_PIN_USER_PAGES_UNLOCKED,
};

#define HOSTWALK_GUP_NO_PAGES	(1u << 0)	/* pass pages == NULL */
#define HOSTWALK_GUP_NO_LOCKED	(1u << 1)	/* _remote: pass locked == NULL */
#define HOSTWALK_GUP_WRITE_LOCK	(1u << 2)	/* hold mmap_lock for writing */

struct hostwalk_gup {
	__u32 call;		/* enum hostwalk_gup_call */
	__u32 gup_flags;	/* FOLL_ values of this kernel, passed on as they are */
	__u64 start;		/* passed on as it is */
	__s64 nr_pages;		/* passed on as it is, zero and negative too */
	__s32 pid;		/* _remote: whose mm; 0 is the caller's */
	__u32 options;		/* HOSTWALK_GUP_ */
	__u64 pfns;		/* user address of capacity __u64: pfns of filled pages */
	__u32 capacity;		/* entries of pages[], not less than nr_pages; all poisoned */
	__u32 handle;		/* out: holds the first ret pages; 0 if ret <= 0 */
	__s64 ret;		/* out: what the call returned */
	__u32 filled;		/* out: leading entries of pages[] that the call has written */
	__s32 locked;		/* out: *locked after the call, where the call has one; else -1 */
};

/* Up to UNPIN_USER_PAGES_DIRTY_LOCK a call for each page, after it one for all. */
enum hostwalk_release_how {
	HOSTWALK_PUT_PAGE = 1,
	HOSTWALK_SET_PAGE_DIRTY_LOCK,	/* set_page_dirty_lock(), then put_page() */
	HOSTWALK_UNPIN_USER_PAGE,
	HOSTWALK_SET_PAGE_DIRTY,	/* set_page_dirty(), then put_page() */
	HOSTWALK_UNPIN_USER_PAGES_DIRTY_LOCK,
	HOSTWALK_UNPIN_USER_PAGES,	/* since 6.12.5 the first may be NULL: given back before */
	HOSTWALK_UNPIN_USER_PAGES_ALL_DIRTY,	/* unpin_user_pages_dirty_lock(), once */
	HOSTWALK_UNPIN_USER_PAGE_RANGE_DIRTY_LOCK,	/* EPERM unless frames follow on */
	HOSTWALK_UNPIN_USER_PAGES_ERROR,	/* unpin_user_pages(pages, -EFAULT) */
};

struct hostwalk_release {
	__u32 handle;
	__u32 how;		/* enum hostwalk_release_how */
	__u32 first;
	__u32 count;		/* all of them still held; 0: all that are left, from first */
};

enum hostwalk_page_kind {
	HOSTWALK_PAGE_ORDER0 = 1,	/* nr pages of alloc_page(GFP_KERNEL) */
	HOSTWALK_PAGE_COMPOUND,		/* one __GFP_COMP block of 2^order */
	HOSTWALK_PAGE_SPLIT,		/* one block of 2^order after split_page() */
	HOSTWALK_PAGE_UNSPLIT,		/* one block of 2^order, neither: tails have no reference */
	HOSTWALK_PAGE_ZERO,		/* ZERO_PAGE(0), nr times */
	HOSTWALK_PAGE_SLAB,		/* virt_to_page() of a kmalloc() */
	HOSTWALK_PAGE_ANON,		/* the anonymous page at addr, faulted in for writing */
	HOSTWALK_PAGE_MAPPED,		/* the page at addr, of whatever kind, likewise */
};

struct hostwalk_alloc {
	__u32 kind;		/* enum hostwalk_page_kind */
	__u32 order;
	__u32 nr;
	__u32 handle;		/* out */
	__u64 addr;		/* HOSTWALK_PAGE_ANON */
	__u64 pfns;		/* user address of nr (or 2^order) __u64 */
};

/*
 * Gives back the exerciser's own references. EBUSY where a fault handler may need
 * them, EPERM after a call that maps pages without references.
 */
struct hostwalk_free {
	__u32 handle;
	__u32 reserved;		/* 0 */
};

enum hostwalk_insert_call {
	HOSTWALK_VM_INSERT_PAGE = 1,	/* once per page, until one fails */
	HOSTWALK_VM_INSERT_PAGES,
	HOSTWALK_VM_MAP_PAGES,		/* the whole vma, from pages[vm_pgoff] */
	HOSTWALK_VM_MAP_PAGES_ZERO,
	HOSTWALK_REMAP_PFN_RANGE,
	HOSTWALK_VMF_INSERT_PFN,	/* from a fault handler only */
	HOSTWALK_VMF_INSERT_MIXED,	/* from a fault handler only */
	HOSTWALK_VMF_INSERT_PFN_PROT,	/* from a fault handler only */
	HOSTWALK_VM_IOMAP_MEMORY,	/* the whole vma; offset counts from the first page */
};

enum hostwalk_when {
	HOSTWALK_WHEN_MMAP = 1,		/* in f_op->mmap of the next mmap(2) of this file */
	HOSTWALK_WHEN_NOW,		/* on the mapping at addr, mmap_lock held for writing */
	HOSTWALK_WHEN_FAULT,		/* in vm_ops->fault of the next mmap(2) of this file */
};

#define HOSTWALK_INSERT_KEEP	(1u << 0)	/* let mmap(2) succeed although the call failed */
#define HOSTWALK_INSERT_MIXEDMAP (1u << 1)	/* set VM_MIXEDMAP before */
#define HOSTWALK_INSERT_PFNMAP	(1u << 2)	/* set VM_PFNMAP before (fault handlers) */
/* In the protection that the call is given; if it takes none, in vma->vm_page_prot before. */
#define HOSTWALK_INSERT_READONLY (1u << 3)	/* that of a mapping without VM_WRITE */
#define HOSTWALK_INSERT_NONCACHED (1u << 4)	/* pgprot_noncached() */
#define HOSTWALK_INSERT_WRITECOMBINE (1u << 5)	/* pgprot_writecombine() */

struct hostwalk_insert {
	__u32 call;		/* enum hostwalk_insert_call */
	__u32 when;		/* enum hostwalk_when */
	__u32 alloc;		/* handle of HOSTWALK_IOC_ALLOC */
	__u32 options;		/* HOSTWALK_INSERT_ */
	__u32 first;		/* first page of alloc */
	__u32 nr;		/* how many */
	__s64 offset;		/* bytes from vm_start to the first address; any number */
	__u64 addr;		/* HOSTWALK_WHEN_NOW: any address in the mapping */
	__s64 ret;		/* out (WHEN_NOW): what the call returned */
	__u64 num;		/* out (WHEN_NOW): pages not inserted; vm_insert_pages: *num */
};

/*
 * What the plan armed last did in f_op->mmap or in its last fault. A fault that
 * leaves no entry at its own address is answered with SIGBUS.
 */
struct hostwalk_insert_result {
	__u32 runs;		/* out: how often it ran */
	__u32 reserved;
	__s64 ret;		/* out: as returned: -errno, or vm_fault_t of a vmf_insert call */
	__u64 num;		/* out */
};

#define HOSTWALK_IOC_GUP	_IOWR(HOSTWALK_IOC_MAGIC, 1, struct hostwalk_gup)
#define HOSTWALK_IOC_RELEASE	_IOW(HOSTWALK_IOC_MAGIC, 2, struct hostwalk_release)
#define HOSTWALK_IOC_ALLOC	_IOWR(HOSTWALK_IOC_MAGIC, 3, struct hostwalk_alloc)
#define HOSTWALK_IOC_INSERT	_IOWR(HOSTWALK_IOC_MAGIC, 4, struct hostwalk_insert)
#define HOSTWALK_IOC_RESULT	_IOR(HOSTWALK_IOC_MAGIC, 5, struct hostwalk_insert_result)
#define HOSTWALK_IOC_FREE	_IOW(HOSTWALK_IOC_MAGIC, 6, struct hostwalk_free)
/* Tests of the host only. */
#define HOSTWALK_IOC_SPIN	_IO(HOSTWALK_IOC_MAGIC, 16)	/* spin for ever, interrupts off */
#define HOSTWALK_IOC_OOPS	_IO(HOSTWALK_IOC_MAGIC, 17)	/* dereference NULL */
#define HOSTWALK_IOC_WARN	_IO(HOSTWALK_IOC_MAGIC, 18)	/* WARN() */

#endif
