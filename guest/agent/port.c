// SPDX-License-Identifier: GPL-2.0
/*
 * The host's side of the broker. The port does not block: a blocking write to
 * a virtio-serial port spins in the kernel until the host has taken the data.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent.h"

#define READ_SIZE	32768

static struct {
	int epoll;
	int fd;
	bool exit_at_end;
	bool away;			/* no host at the other end */
	__u32 events;
	struct buffer in;
	struct buffer out;
} port;

static void port_watch(int how, __u32 events)
{
	struct epoll_event event = { .events = events };

	if (events == port.events)
		return;
	port.events = events;
	if (epoll_ctl(port.epoll, how, port.fd, &event))
		fatal("epoll on the port: %s", strerror(errno));
}

/* A port without a host is always readable (end of file): wait for an edge. */
static void port_watch_again(void)
{
	__u32 events = EPOLLIN;

	if (buffer_size(&port.out))
		events |= EPOLLOUT;
	if (port.away)
		events = EPOLLIN | EPOLLOUT | EPOLLET;
	port_watch(EPOLL_CTL_MOD, events);
}

void port_open(int epoll, int fd, bool exit_at_end)
{
	port.epoll = epoll;
	port.fd = fd;
	port.exit_at_end = exit_at_end;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	port_watch(EPOLL_CTL_ADD, EPOLLIN);
}

static void port_host_left(void)
{
	if (port.exit_at_end)
		_exit(0);
	port.away = true;
	buffer_free(&port.in);
	buffer_free(&port.out);
	clients_forget_requests();
}

static void port_flush(void)
{
	while (buffer_size(&port.out)) {
		ssize_t done = write(port.fd, buffer_data(&port.out),
				     buffer_size(&port.out));

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			break;
		buffer_consume(&port.out, done);
	}
}

void port_send(const struct hostwalk_frame *frame, const void *payload)
{
	if (port.away)
		return;
	buffer_append(&port.out, frame, sizeof(*frame));
	if (frame->size)
		buffer_append(&port.out, payload, frame->size);
	port_flush();
	port_watch_again();
}

static void port_refuse(const struct hostwalk_frame *frame)
{
	struct hostwalk_frame reply = *frame;

	if (reply.magic != HOSTWALK_MAGIC)
		memset(&reply, 0, sizeof(reply));
	reply.magic = HOSTWALK_MAGIC;
	reply.size = 0;
	reply.status = HOSTWALK_BAD_OP;
	port_send(&reply, NULL);
}

/* Drop bytes up to the next magic number, or to where it may begin. */
static void port_resynchronise(void)
{
	const __u32 magic = HOSTWALK_MAGIC;

	while (buffer_size(&port.in)) {
		size_t size = buffer_size(&port.in);

		if (size > sizeof(magic))
			size = sizeof(magic);
		if (!memcmp(buffer_data(&port.in), &magic, size))
			return;
		buffer_consume(&port.in, 1);
	}
}

/* Whether a request was taken from the buffer. */
static bool port_next(void)
{
	struct hostwalk_frame frame;

	if (buffer_size(&port.in) < sizeof(frame))
		return false;
	memcpy(&frame, buffer_data(&port.in), sizeof(frame));
	if (frame.magic != HOSTWALK_MAGIC || frame.size > HOSTWALK_PAYLOAD_MAX) {
		port_refuse(&frame);
		buffer_consume(&port.in, 1);
		port_resynchronise();
		return true;
	}
	if (buffer_size(&port.in) < sizeof(frame) + frame.size)
		return false;
	broker_request(&frame, buffer_data(&port.in) + sizeof(frame));
	buffer_consume(&port.in, sizeof(frame) + frame.size);
	return true;
}

static void port_read(void)
{
	unsigned char *room = buffer_reserve(&port.in, READ_SIZE);
	ssize_t size = read(port.fd, room, READ_SIZE);

	if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) {
		if (!port.away)
			port_host_left();
		return;
	}
	port.away = false;
	if (size > 0)
		port.in.end += size;
	while (port_next())
		;
}

void port_event(__u32 events)
{
	if (events & ~EPOLLOUT)
		port_read();
	else if (port.away)
		port.away = false;
	if (events & EPOLLOUT)
		port_flush();
	port_watch_again();
}
