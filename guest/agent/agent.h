/* SPDX-License-Identifier: GPL-2.0 */
/*
 * hostwalk's agent: PID 1 of the guest, and its subjects.
 *
 * The broker (PID 1) owns the port to the host and passes requests on to the
 * subjects, each over a socket of its own, and never waits for one of them. A
 * subject is this program, executed again, or a fork or a thread of a subject.
 */
#ifndef HOSTWALK_AGENT_H
#define HOSTWALK_AGENT_H

#include <linux/types.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>

#include "hostwalk_uapi.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* A multiple of every page size, so that layouts do not depend on it. */
#define BIG_PAGE	65536
/* Where subjects keep their sockets, out of the way of the files under test. */
#define SOCKET_FD	512
#define THREAD_STACK	BIG_PAGE

/*
 * All the memory that an operation may touch besides the stack. Mapped and
 * populated at the start, never copied by fork.
 */
struct subject {
	unsigned char scratch[HOSTWALK_PAYLOAD_MAX];
	unsigned char stage[HOSTWALK_COPY_MAX];
	unsigned char altstack[BIG_PAGE];

	unsigned int number;
	int fd;
	bool thread;
	char *stack_top;		/* the loop's frame ends here */

	/* A guarded access: touch.c. */
	volatile bool guarded;
	volatile unsigned long index;
	int signal;
	int code;
	unsigned long addr;
	sigjmp_buf recover;
} __attribute__((aligned(BIG_PAGE)));

/* init.c: what a distribution's init would do. */
void init_system(void);
int init_find_port(void);
_Noreturn void fatal(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
void warn(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/* buffer.c: bytes on their way. */
struct buffer {
	unsigned char *data;
	size_t start;
	size_t end;
	size_t room;
};

unsigned char *buffer_reserve(struct buffer *buffer, size_t size);
void buffer_append(struct buffer *buffer, const void *data, size_t size);
void buffer_consume(struct buffer *buffer, size_t size);
void buffer_free(struct buffer *buffer);

static inline size_t buffer_size(const struct buffer *buffer)
{
	return buffer->end - buffer->start;
}

static inline unsigned char *buffer_data(const struct buffer *buffer)
{
	return buffer->data + buffer->start;
}

/* port.c: frames to and from the host. */
void port_open(int epoll, int fd, bool exit_at_end);
void port_event(__u32 events);
void port_send(const struct hostwalk_frame *frame, const void *payload);

/* broker.c: the loop of PID 1. */
_Noreturn void broker_run(int port, bool exit_at_end);
void broker_request(const struct hostwalk_frame *frame,
		    const unsigned char *payload);

/* client.c: the subjects as the broker sees them. */
struct client {
	struct client *next;
	unsigned int number;
	int pid;
	int process;			/* thread group; pid for processes */
	int fd;				/* -1: hung up */
	bool dead;
	int status;			/* wait status, when dead */
	bool busy;
	struct hostwalk_frame request;	/* what keeps it busy */
	bool reaping;
	struct hostwalk_frame reap;
	struct buffer in;
	struct buffer out;
};

void clients_start(int epoll);
void client_spawn(const struct hostwalk_frame *request);
void client_request(struct client *client, const struct hostwalk_frame *frame,
		    const unsigned char *payload);
void client_reap(struct client *client, const struct hostwalk_frame *request);
void client_event(struct client *client, __u32 events);
void clients_died(void);
struct client *client_find(unsigned int number);
void clients_forget_requests(void);

/* subject.c: the loop of a subject. */
_Noreturn void subject_main(unsigned int number, int fd);
_Noreturn void subject_serve(struct subject *self);
struct subject *subject_map(unsigned int number, size_t extra);
void subject_settle(struct subject *self);
long subject_receive(int fd, void *data, size_t size);
void subject_hello(const struct subject *self, struct hostwalk_frame *frame);
void subject_send(int fd, const struct hostwalk_frame *frame,
		  const void *payload, int pass_fd);

/* clone.c: new subjects made by subjects. */
int clone_fork(struct subject *self, struct hostwalk_frame *frame);
int clone_thread(struct subject *self, struct hostwalk_frame *frame);
_Noreturn void clone_thread_exit(struct subject *self);

/* touch.c: memory accesses whose faults are results. */
void touch_prepare(struct subject *self);
bool touch_run(struct subject *self, struct hostwalk_frame *frame);

#endif
