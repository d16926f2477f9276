// SPDX-License-Identifier: GPL-2.0
/*
 * The loop of a subject. It touches its own struct subject and its stack, both
 * populated beforehand, so that what an operation does to the address space is
 * the operation's alone.
 */
#include <errno.h>
#include <linux/mman.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "agent.h"
#include "raw.h"

/* Far from program, heap, stack and the place where mmap(2) puts things. */
#define SUBJECT_BASE	0x200000000ul
#define SUBJECT_STRIDE	0x400000ul
#define SUBJECT_SLOTS	4096

#define SETTLE_SIZE	16384
#define SETTLE_STEP	4096

/*
 * An own mapping that fork does not copy (a copy would make the parent's pages
 * copy-on-write) and that never merges with a neighbour.
 */
struct subject *subject_map(unsigned int number, size_t extra)
{
	unsigned long base = SUBJECT_BASE + number % SUBJECT_SLOTS * SUBJECT_STRIDE;
	const int prot = PROT_READ | PROT_WRITE;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	const size_t size = sizeof(struct subject) + extra;
	long at = raw6(SYS_mmap, base, size, prot, flags | MAP_FIXED_NOREPLACE, -1, 0);

	if (at == -EEXIST)
		at = raw6(SYS_mmap, 0, size, prot, flags, -1, 0);
	if (at < 0)
		return (struct subject *)at;
	raw3(SYS_madvise, at, sizeof(struct subject), MADV_DONTFORK);
	raw3(SYS_madvise, at, size, MADV_NOHUGEPAGE);
	((struct subject *)at)->number = number;
	return (struct subject *)at;
}

/*
 * Make the stack private and writable, down to what an operation may need: the
 * same pages from wherever this is called.
 */
void subject_settle(struct subject *self)
{
	size_t below;

	for (below = 0; below < SETTLE_SIZE; below += SETTLE_STEP)
		__atomic_fetch_or(self->stack_top - below, 0, __ATOMIC_RELAXED);
}

/* size, or less at the end of file, or -errno. */
long subject_receive(int fd, void *data, size_t size)
{
	size_t done = 0;

	while (done < size) {
		long got = raw6(SYS_recvfrom, fd, (long)data + done, size - done,
				MSG_WAITALL, 0, 0);

		if (got == -EINTR)
			continue;
		if (got < 0)
			return got;
		if (got == 0)
			break;
		done += got;
	}
	return done;
}

static void attach(struct msghdr *message, void *control, size_t size, int fd)
{
	struct cmsghdr *header;

	message->msg_control = control;
	message->msg_controllen = size;
	header = CMSG_FIRSTHDR(message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
}

/* Send a frame and its payload; pass_fd is passed along unless it is -1. */
void subject_send(int fd, const struct hostwalk_frame *frame,
		  const void *payload, int pass_fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov[] = {
		{ (void *)frame, sizeof(*frame) },
		{ (void *)payload, frame->size },
	};
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
	size_t left = sizeof(*frame) + frame->size;
	size_t i = 0;

	if (pass_fd >= 0)
		attach(&message, &control, sizeof(control), pass_fd);
	while (left) {
		long done = raw3(SYS_sendmsg, fd, (long)&message, MSG_NOSIGNAL);

		if (done == -EINTR)
			continue;
		if (done < 0)
			raw3(SYS_exit_group, 1, 0, 0);
		left -= done;
		for (; i < 2 && (size_t)done >= iov[i].iov_len; i++) {
			done -= iov[i].iov_len;
			iov[i].iov_len = 0;
		}
		if (i < 2) {
			iov[i].iov_base = (char *)iov[i].iov_base + done;
			iov[i].iov_len -= done;
		}
		message.msg_controllen = 0;
	}
}

/* What a new subject says first. */
void subject_hello(const struct subject *self, struct hostwalk_frame *frame)
{
	memset(frame, 0, sizeof(*frame));
	frame->magic = HOSTWALK_MAGIC;
	frame->args[0] = self->number;
	frame->args[1] = raw3(SYS_gettid, 0, 0, 0);
	frame->args[2] = (unsigned long)self->scratch;
	frame->args[3] = sizeof(self->scratch);
}

static _Noreturn void subject_leave(struct subject *self)
{
	if (self->thread)
		clone_thread_exit(self);
	for (;;)
		raw3(SYS_exit_group, 0, 0, 0);
}

/* The broker cannot see a thread end: say so beforehand. */
static void subject_farewell(struct subject *self, unsigned long code)
{
	struct hostwalk_frame frame = {
		.magic = HOSTWALK_MAGIC,
		.status = HOSTWALK_NO_SUBJECT,
		.args[0] = (code & 0xff) << 8,
	};

	subject_send(self->fd, &frame, NULL, -1);
	raw3(SYS_close, self->fd, 0, 0);
}

static bool subject_syscall(struct subject *self, struct hostwalk_frame *frame)
{
	const unsigned long reply = frame->args[7];

	if (reply > sizeof(self->scratch))
		return false;
	if (self->thread && frame->args[0] == SYS_exit)
		subject_farewell(self, frame->args[1]);
	frame->args[0] = raw6(frame->args[0], frame->args[1], frame->args[2],
			      frame->args[3], frame->args[4], frame->args[5],
			      frame->args[6]);
	frame->size = reply;
	return true;
}

/* Take the payload: into scratch for a system call, else into stage. */
static bool subject_take(struct subject *self, const struct hostwalk_frame *frame)
{
	bool is_syscall = frame->op == HOSTWALK_OP_SYSCALL;
	unsigned char *to = is_syscall ? self->scratch : self->stage;
	size_t room = is_syscall ? sizeof(self->scratch) : sizeof(self->stage);
	size_t left = frame->size;

	while (left) {
		size_t size = left < room ? left : room;

		if (subject_receive(self->fd, to, size) != (long)size)
			subject_leave(self);
		left -= size;
	}
	return frame->size <= room;
}

/* Returns whether the request made sense; *pass_fd goes back with the reply. */
static bool subject_obey(struct subject *self, struct hostwalk_frame *frame,
			 int *pass_fd)
{
	switch (frame->op) {
	case HOSTWALK_OP_SYSCALL:
		return subject_syscall(self, frame);
	case HOSTWALK_OP_FORK:
		*pass_fd = clone_fork(self, frame);
		return true;
	case HOSTWALK_OP_THREAD:
		*pass_fd = clone_thread(self, frame);
		return true;
	default:
		return touch_run(self, frame);
	}
}

static void subject_turn(struct subject *self)
{
	struct hostwalk_frame frame;
	const void *payload;
	int pass_fd = -1;
	bool fits;

	if (subject_receive(self->fd, &frame, sizeof(frame)) != sizeof(frame))
		subject_leave(self);
	fits = subject_take(self, &frame);
	payload = frame.op == HOSTWALK_OP_SYSCALL ? self->scratch : self->stage;
	frame.status = HOSTWALK_OK;
	if (!fits || !subject_obey(self, &frame, &pass_fd)) {
		frame.status = HOSTWALK_BAD_OP;
		frame.size = 0;
	}
	subject_send(self->fd, &frame, payload, pass_fd);
	if (pass_fd >= 0)
		raw3(SYS_close, pass_fd, 0, 0);
}

/* Runs on the stack of its caller, which must never be returned to. */
_Noreturn void subject_serve(struct subject *self)
{
	struct hostwalk_frame frame;
	char name[16];

	self->stack_top = (char *)(&frame + 1) - 1;
	snprintf(name, sizeof(name), "subject-%u", self->number);
	prctl(PR_SET_NAME, name);
	touch_prepare(self);
	subject_settle(self);
	subject_hello(self, &frame);
	subject_send(self->fd, &frame, NULL, -1);
	for (;;)
		subject_turn(self);
}

/* A subject in a program of its own; the socket is fd. */
_Noreturn void subject_main(unsigned int number, int fd)
{
	struct subject *self = subject_map(number, 0);
	sigset_t none;

	if ((long)self < 0 && (long)self > -4096)
		fatal("no memory for subject %u: %s", number, strerror(-(long)self));
	self->fd = fd;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	subject_serve(self);
}
