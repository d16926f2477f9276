// SPDX-License-Identifier: GPL-2.0
/*
 * Loads, stores and jumps of which a fault is a result, not an end. The handler
 * blocks no signal, so jumping out of it leaves the signal mask as it was.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#include "agent.h"
#include "raw.h"

static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGTRAP };

/* Each thread has a signal stack of its own, which leads to its subject. */
static struct subject *subject_of(const ucontext_t *context)
{
	char *stack = context->uc_stack.ss_sp;

	return (struct subject *)(stack - offsetof(struct subject, altstack));
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	struct subject *self = subject_of(context);

	if (!self->guarded) {
		struct sigaction action = { .sa_handler = SIG_DFL };

		sigaction(signal, &action, NULL);
		raw3(SYS_tgkill, raw3(SYS_getpid, 0, 0, 0), raw3(SYS_gettid, 0, 0, 0), signal);
		return;
	}
	self->guarded = false;
	self->signal = signal;
	self->code = info->si_code;
	self->addr = (unsigned long)info->si_addr;
	siglongjmp(self->recover, 1);
}

void touch_prepare(struct subject *self)
{
	struct sigaction action = {
		.sa_sigaction = on_fault,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};
	stack_t stack = {
		.ss_sp = self->altstack,
		.ss_size = sizeof(self->altstack),
	};
	size_t i;

	sigaltstack(&stack, NULL);
	for (i = 0; i < ARRAY_SIZE(faults); i++)
		sigaction(faults[i], &action, NULL);
}

static volatile unsigned char *nth(const struct hostwalk_frame *frame, unsigned long i)
{
	return (volatile unsigned char *)(frame->args[0] + i * frame->args[1]);
}

static void load(struct subject *self, struct hostwalk_frame *frame)
{
	const unsigned long count = frame->args[2];
	unsigned long sum = 0;

	for (self->index = 0; self->index < count; self->index++)
		sum += *nth(frame, self->index);
	frame->args[0] = count;
	frame->args[1] = sum;
}

static void store(struct subject *self, struct hostwalk_frame *frame)
{
	const unsigned long count = frame->args[2];

	for (self->index = 0; self->index < count; self->index++)
		*nth(frame, self->index) = frame->args[3];
	frame->args[0] = count;
}

static void execute(struct subject *self, struct hostwalk_frame *frame)
{
	void (*function)(void) = (void (*)(void))frame->args[0];

	(void)self;
	function();
}

static void peek(struct subject *self, struct hostwalk_frame *frame)
{
	const volatile unsigned char *from = (void *)frame->args[0];
	const unsigned long size = frame->args[1];

	for (self->index = 0; self->index < size; self->index++)
		self->stage[self->index] = from[self->index];
	frame->size = size;
}

/* The bytes may be instructions. */
static void poke(struct subject *self, struct hostwalk_frame *frame)
{
	volatile unsigned char *to = (void *)frame->args[0];
	const unsigned long size = frame->size;

	for (self->index = 0; self->index < size; self->index++)
		to[self->index] = self->stage[self->index];
	__builtin___clear_cache((char *)to, (char *)to + size);
	frame->size = 0;
	frame->args[0] = size;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void spin(struct subject *self, struct hostwalk_frame *frame)
{
	const long end = now_ms() + frame->args[0];
	volatile char on_stack = 0;
	int i;

	(void)self;
	while (now_ms() < end)
		for (i = 0; i < 10000; i++)
			on_stack;
}

/* Run access, or tell in frame which signal ended it. */
static __attribute__((noinline)) void
guarded(struct subject *self, struct hostwalk_frame *frame,
	void (*access)(struct subject *self, struct hostwalk_frame *frame))
{
	self->index = 0;
	if (sigsetjmp(self->recover, 0) == 0) {
		self->guarded = true;
		access(self, frame);
		self->guarded = false;
		return;
	}
	memset(frame->args, 0, sizeof(frame->args));
	frame->status = HOSTWALK_FAULT;
	frame->size = 0;
	frame->args[0] = self->signal;
	frame->args[1] = self->code;
	frame->args[2] = self->addr;
	frame->args[3] = self->index;
}

bool touch_run(struct subject *self, struct hostwalk_frame *frame)
{
	static void (*const accesses[])(struct subject *, struct hostwalk_frame *) = {
		[HOSTWALK_OP_LOAD] = load,
		[HOSTWALK_OP_STORE] = store,
		[HOSTWALK_OP_EXEC] = execute,
		[HOSTWALK_OP_PEEK] = peek,
		[HOSTWALK_OP_POKE] = poke,
		[HOSTWALK_OP_SPIN] = spin,
	};

	if (frame->op >= ARRAY_SIZE(accesses) || !accesses[frame->op])
		return false;
	if (frame->op == HOSTWALK_OP_PEEK && frame->args[1] > sizeof(self->stage))
		return false;
	if (frame->op != HOSTWALK_OP_POKE)
		frame->size = 0;
	guarded(self, frame, accesses[frame->op]);
	return true;
}
