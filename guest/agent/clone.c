// SPDX-License-Identifier: GPL-2.0
/*
 * Subjects made by subjects. The new one says hello on a socket pair of which
 * the parent hands one end to the broker, together with its reply; so the
 * broker knows the new subject before the host does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "agent.h"
#include "raw.h"

#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | \
		      CLONE_THREAD | CLONE_SYSVSEM)

static void refused(struct hostwalk_frame *frame, long error)
{
	memset(frame->args, 0, sizeof(frame->args));
	frame->args[1] = error;
	frame->size = 0;
}

/* The parent's end of the pair, and the child's, which is out of the way. */
static long make_pair(int pair[2])
{
	long high = raw6(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
			 (long)pair, 0, 0);

	if (high < 0)
		return high;
	high = raw3(SYS_fcntl, pair[1], F_DUPFD_CLOEXEC, SOCKET_FD);
	raw3(SYS_close, pair[1], 0, 0);
	if (high < 0)
		raw3(SYS_close, pair[0], 0, 0);
	pair[1] = high;
	return high;
}

/* Other subjects' sockets must close when those subjects end. */
static void close_other_sockets(int own)
{
	if (own > SOCKET_FD)
		raw3(SYS_close_range, SOCKET_FD, own - 1, 0);
	raw3(SYS_close_range, own + 1, ~0u, 0);
}

static _Noreturn void fork_child(unsigned int number, const int pair[2])
{
	struct hostwalk_frame frame = { .magic = HOSTWALK_MAGIC };
	struct subject *self;

	raw3(SYS_close, pair[0], 0, 0);
	close_other_sockets(pair[1]);
	raw3(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
	self = subject_map(number, 0);
	if ((long)self > -4096 && (long)self < 0) {
		refused(&frame, (long)self);
		subject_send(pair[1], &frame, NULL, -1);
		for (;;)
			raw3(SYS_exit_group, 1, 0, 0);
	}
	self->fd = pair[1];
	subject_serve(self);
}

/* Take over the hello of a new subject; the socket to pass on, or -1. */
static int await(struct hostwalk_frame *frame, int fd)
{
	struct hostwalk_frame hello;

	if (subject_receive(fd, &hello, sizeof(hello)) != sizeof(hello))
		refused(&hello, -ECHILD);
	memcpy(frame->args, hello.args, sizeof(frame->args));
	frame->size = 0;
	if (frame->args[0])
		return fd;
	raw3(SYS_close, fd, 0, 0);
	return -1;
}

/*
 * The child is the broker's, not ours (CLONE_PARENT): the broker then learns
 * how it ended.
 */
int clone_fork(struct subject *self, struct hostwalk_frame *frame)
{
	const unsigned int number = frame->args[7];
	int pair[2];
	long pid = make_pair(pair);

	if (pid < 0) {
		refused(frame, pid);
		return -1;
	}
	pid = raw6(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0, 0);
	if (pid == 0)
		fork_child(number, pair);
	raw3(SYS_close, pair[1], 0, 0);
	subject_settle(self);
	if (pid < 0) {
		raw3(SYS_close, pair[0], 0, 0);
		refused(frame, pid);
		return -1;
	}
	return await(frame, pair[0]);
}

static int thread_main(void *data)
{
	subject_serve(data);
}

int clone_thread(struct subject *self, struct hostwalk_frame *frame)
{
	const unsigned int number = frame->args[7];
	struct subject *thread = NULL;
	int pair[2];
	long error = make_pair(pair);

	(void)self;
	if (error < 0) {
		refused(frame, error);
		return -1;
	}
	thread = subject_map(number, THREAD_STACK);
	error = (long)thread > -4096 && (long)thread < 0 ? (long)thread : 0;
	if (!error) {
		thread->fd = pair[1];
		thread->thread = true;
		if (clone(thread_main, (char *)(thread + 1) + THREAD_STACK,
			  THREAD_FLAGS, thread) >= 0)
			return await(frame, pair[0]);
		error = -errno;
		raw3(SYS_munmap, (long)thread, sizeof(*thread) + THREAD_STACK, 0);
	}
	raw3(SYS_close, pair[0], 0, 0);
	raw3(SYS_close, pair[1], 0, 0);
	refused(frame, error);
	return -1;
}

/* Unmap the stack that we stand on, close the socket, end. */
_Noreturn void clone_thread_exit(struct subject *self)
{
	const long size = sizeof(*self) + THREAD_STACK;

#if defined(__x86_64__)
	__asm__ volatile("syscall\n\t"
			 "mov %[close], %%eax\n\t"
			 "mov %%ebx, %%edi\n\t"
			 "syscall\n\t"
			 "mov %[exit], %%eax\n\t"
			 "xor %%edi, %%edi\n\t"
			 "syscall"
			 :: "a"(SYS_munmap), "D"(self), "S"(size), "b"(self->fd),
			    [close] "i"(SYS_close), [exit] "i"(SYS_exit)
			 : "rcx", "r11", "memory");
#else
	register long x0 __asm__("x0") = (long)self;
	register long x1 __asm__("x1") = size;
	register long x8 __asm__("x8") = SYS_munmap;
	register long x19 __asm__("x19") = self->fd;

	__asm__ volatile("svc #0\n\t"
			 "mov x0, x19\n\t"
			 "mov x8, %[close]\n\t"
			 "svc #0\n\t"
			 "mov x0, #0\n\t"
			 "mov x8, %[exit]\n\t"
			 "svc #0"
			 : "+r"(x0), "+r"(x8)
			 : "r"(x1), "r"(x19),
			   [close] "i"(SYS_close), [exit] "i"(SYS_exit)
			 : "memory");
#endif
	__builtin_unreachable();
}
