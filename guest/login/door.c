// SPDX-License-Identifier: GPL-2.0
/*
 * One SSH connection after the other. The host sends the keys, then what a TCP
 * connection would carry; it is passed on to an SSH server of that connection
 * alone, over a socket pair. The port does not block: a blocking write to it
 * spins in the kernel until the host has taken the data.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "login.h"
#include "ports.h"

#define SERVER		"/usr/sbin/dropbear"
#define HOST_KEY	"/run/host_key"
#define AUTHORIZED	"/root/.ssh/authorized_keys"
#define ROOM		65536

struct pipe_buffer {
	char data[ROOM];
	size_t start;
	size_t end;
};

static struct pipe_buffer inward, outward;

/* A port without a host is always readable (end of file): wait for an edge. */
static void wait_for_host(int port)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, port, &event))
		fail("the door's epoll: %s", strerror(errno));
	for (;;) {
		struct pollfd now = { .fd = port, .events = POLLIN };

		poll(&now, 1, 0);
		if (!(now.revents & POLLHUP))
			break;
		epoll_wait(epoll, &event, 1, -1);
	}
	close(epoll);
}

/* Whether that many bytes came before the host left. */
static bool take(int port, void *data, size_t size)
{
	size_t done = 0;

	while (done < size) {
		struct pollfd ready = { .fd = port, .events = POLLIN };
		ssize_t got = read(port, (char *)data + done, size - done);

		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		if (got > 0)
			done += got;
		else
			poll(&ready, 1, -1);
	}
	return true;
}

static bool keep(int port, const char *path, size_t size)
{
	char data[LOGIN_KEY_MAX];
	bool kept;
	int fd;

	if (size > sizeof(data) || !take(port, data, size))
		return false;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	kept = fd >= 0 && write(fd, data, size) == (ssize_t)size;
	if (!kept)
		say("cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return kept;
}

static bool greet(int port)
{
	struct login_header header;

	mkdir("/root/.ssh", 0700);
	return take(port, &header, sizeof(header)) && header.magic == LOGIN_MAGIC &&
	       keep(port, HOST_KEY, header.host_key) &&
	       keep(port, AUTHORIZED, header.authorized);
}

static int start_server(void)
{
	int pair[2];
	int pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		fail("the door's sockets: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		fail("the door cannot fork: %s", strerror(errno));
	if (!pid) {
		signal(SIGPIPE, SIG_DFL);
		signal(SIGCHLD, SIG_DFL);
		write_file("/proc/self/oom_score_adj", "0");
		dup2(pair[1], 0);
		dup2(pair[1], 1);
		execl(SERVER, "dropbear", "-i", "-s", "-j", "-k", "-r", HOST_KEY, NULL);
		fail("cannot start %s: %s", SERVER, strerror(errno));
	}
	close(pair[1]);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	return pair[0];
}

/* Whether the end that is read from is still there. */
static bool fill(struct pipe_buffer *buffer, int fd)
{
	ssize_t size = read(fd, buffer->data, sizeof(buffer->data));

	if (size < 0)
		return errno == EAGAIN || errno == EINTR;
	buffer->start = 0;
	buffer->end = size;
	return size > 0;
}

static bool drain(struct pipe_buffer *buffer, int fd)
{
	ssize_t size = write(fd, buffer->data + buffer->start,
			     buffer->end - buffer->start);

	if (size < 0)
		return errno == EAGAIN || errno == EINTR;
	buffer->start += size;
	return true;
}

static bool is_full(const struct pipe_buffer *buffer)
{
	return buffer->start < buffer->end;
}

/* Pass bytes on until one end has gone. */
static void pass_on(int port, int server)
{
	struct pollfd ends[] = { { .fd = port }, { .fd = server } };
	bool well = true;

	inward.start = 0;
	inward.end = 0;
	outward.start = 0;
	outward.end = 0;
	while (well) {
		ends[0].events = (is_full(&inward) ? 0 : POLLIN) |
				 (is_full(&outward) ? POLLOUT : 0);
		ends[1].events = (is_full(&outward) ? 0 : POLLIN) |
				 (is_full(&inward) ? POLLOUT : 0);
		if (poll(ends, 2, -1) < 0)
			continue;
		if (ends[0].revents & (POLLIN | POLLHUP) && !is_full(&inward))
			well = fill(&inward, port);
		if (well && ends[1].revents & (POLLIN | POLLHUP) && !is_full(&outward))
			well = fill(&outward, server);
		if (is_full(&inward))
			well = well && drain(&inward, server);
		if (is_full(&outward))
			well = well && drain(&outward, port);
	}
}

_Noreturn void door(void)
{
	signal(SIGPIPE, SIG_IGN);
	/* Orphans of a session are this process's children, and nobody waits for them. */
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		/* To open it again tells the host that this connection is over. */
		int port = ports_open(LOGIN_PORT, -1);

		wait_for_host(port);
		if (greet(port)) {
			int server = start_server();

			pass_on(port, server);
			close(server);
		}
		close(port);
	}
}
