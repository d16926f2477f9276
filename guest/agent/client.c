// SPDX-License-Identifier: GPL-2.0
/*
 * Subjects as the broker sees them. One that has died stays known, with its
 * wait status, until the host reaps it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define READ_SIZE	65536

static int epoll_fd;
static struct client *clients;
static unsigned int last_number;

void clients_start(int epoll)
{
	epoll_fd = epoll;
}

struct client *client_find(unsigned int number)
{
	struct client *client = clients;

	while (client && client->number != number)
		client = client->next;
	return client;
}

static void client_watch(struct client *client, int how)
{
	struct epoll_event event = { .events = EPOLLIN };

	if (buffer_size(&client->out))
		event.events |= EPOLLOUT;
	event.data.ptr = client;
	if (epoll_ctl(epoll_fd, how, client->fd, &event))
		fatal("epoll on subject %u: %s", client->number, strerror(errno));
}

static struct client *client_add(unsigned int number, int pid, int process, int fd)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client)
		fatal("out of memory for subject %u", number);
	client->number = number;
	client->pid = pid;
	client->process = process;
	client->fd = fd;
	client->next = clients;
	clients = client;
	fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	client_watch(client, EPOLL_CTL_ADD);
	return client;
}

/*
 * Closing is not enough for epoll: the parent that passed this socket on may
 * still hold it.
 */
static void client_hang_up(struct client *client)
{
	if (client->fd >= 0) {
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
		close(client->fd);
	}
	client->fd = -1;
	buffer_free(&client->in);
	buffer_free(&client->out);
}

static void client_remove(struct client *client)
{
	struct client **link = &clients;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	client_hang_up(client);
	free(client);
}

static void client_answer(const struct client *client,
			  const struct hostwalk_frame *request, __u32 status)
{
	struct hostwalk_frame reply = *request;

	if (request->magic != HOSTWALK_MAGIC)	/* its host has left */
		return;
	memset(reply.args, 0, sizeof(reply.args));
	reply.size = 0;
	reply.status = status;
	if (status != HOSTWALK_BAD_OP) {
		reply.args[0] = client->status;
		reply.args[1] = client->pid;
	}
	port_send(&reply, NULL);
}

static void client_died(struct client *client, int status)
{
	bool unknown = client->busy && client->request.op == HOSTWALK_OP_SPAWN;

	client_hang_up(client);
	client->dead = true;
	client->status = status;
	if (client->busy)
		client_answer(client, &client->request, HOSTWALK_NO_SUBJECT);
	client->busy = false;
	if (client->reaping)
		client_answer(client, &client->reap, HOSTWALK_OK);
	if (client->reaping || unknown)
		client_remove(client);
}

/*
 * The reply that ends a request. A thread that is about to leave says so with
 * HOSTWALK_NO_SUBJECT.
 */
static void client_replied(struct client *client)
{
	struct hostwalk_frame *frame = (void *)buffer_data(&client->in);
	const struct hostwalk_frame *request = &client->request;

	if (frame->status == HOSTWALK_NO_SUBJECT) {
		client_died(client, frame->args[0]);
		return;
	}
	frame->magic = request->magic;
	frame->op = request->op;
	frame->seq = request->seq;
	frame->subject = request->subject;
	client->busy = false;
	if (frame->magic == HOSTWALK_MAGIC)
		port_send(frame, frame + 1);
	buffer_consume(&client->in, sizeof(*frame) + frame->size);
}

/* A fork or a thread: the reply brings the socket of the new subject along. */
static void client_adopt(struct client *parent, int fd)
{
	const struct hostwalk_frame *frame = (void *)buffer_data(&parent->in);
	const __u32 op = parent->request.op;
	int process = frame->args[1];

	if (buffer_size(&parent->in) < sizeof(*frame) || process <= 1 ||
	    frame->args[0] != parent->request.args[7] ||
	    (op != HOSTWALK_OP_FORK && op != HOSTWALK_OP_THREAD)) {
		close(fd);
		return;
	}
	if (op == HOSTWALK_OP_THREAD)
		process = parent->process;
	client_add(frame->args[0], frame->args[1], process, fd);
}

static ssize_t client_read(struct client *client, int *fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buffer_reserve(&client->in, READ_SIZE), READ_SIZE };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t size = recvmsg(client->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *header = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	*fd = -1;
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(header), sizeof(*fd));
	if (size > 0)
		client->in.end += size;
	return size;
}

static bool client_complete(const struct client *client)
{
	const struct hostwalk_frame *frame = (void *)buffer_data(&client->in);
	size_t size = buffer_size(&client->in);

	return size >= sizeof(*frame) && size >= sizeof(*frame) + frame->size;
}

/* The host may have written over a subject: believe nothing. */
static bool client_talks_nonsense(const struct client *client)
{
	const struct hostwalk_frame *frame = (void *)buffer_data(&client->in);
	size_t size = buffer_size(&client->in);

	if (!client->busy)
		return size > 0;
	return size >= sizeof(*frame) && (frame->magic != HOSTWALK_MAGIC ||
					  frame->size > HOSTWALK_PAYLOAD_MAX);
}

static bool client_receive(struct client *client)
{
	int fd;
	ssize_t size = client_read(client, &fd);

	if (size <= 0)
		return size < 0 && (errno == EAGAIN || errno == EINTR);
	if (client_talks_nonsense(client)) {
		warn("subject %u talks nonsense: killed", client->number);
		kill(client->process, SIGKILL);
		buffer_free(&client->in);
		if (fd >= 0)
			close(fd);
		return true;
	}
	if (fd >= 0)
		client_adopt(client, fd);
	if (client_complete(client))
		client_replied(client);
	return true;
}

/* What it said before it died still counts. */
static void client_drain(struct client *client)
{
	while (client->fd >= 0 && client->busy) {
		size_t before = buffer_size(&client->in);

		if (!client_receive(client) || buffer_size(&client->in) <= before)
			return;
	}
}

static void process_died(int process, int status)
{
	struct client *client, *next;

	for (client = clients; client; client = next) {
		next = client->next;
		if (client->process != process || client->dead)
			continue;
		client_drain(client);
		if (!client->dead)
			client_died(client, status);
	}
}

void clients_died(void)
{
	int status;
	int pid;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		process_died(pid, status);
}

static void client_execute(unsigned int number, int fd)
{
	char number_text[16];
	char fd_text[16];
	char *const argv[] = { "subject", "--subject", number_text, fd_text, NULL };
	char *const envp[] = { NULL };

	snprintf(number_text, sizeof(number_text), "%u", number);
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	execve("/proc/self/exe", argv, envp);
	_exit(127);
}

/* A program of its own, so that it shares no memory with PID 1. */
void client_spawn(const struct hostwalk_frame *request)
{
	struct client *client;
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		fatal("socketpair: %s", strerror(errno));
	last_number++;
	pid = vfork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Not close-on-exec any more, and away from the standard files. */
		client_execute(last_number, fcntl(pair[1], F_DUPFD, SOCKET_FD));
	}
	if (pid < 0)
		fatal("vfork: %s", strerror(errno));
	close(pair[1]);
	client = client_add(last_number, pid, pid, pair[0]);
	client->busy = true;
	client->request = *request;
}

static void client_flush(struct client *client)
{
	bool was_waiting = false;

	while (client->fd >= 0 && buffer_size(&client->out)) {
		ssize_t done = send(client->fd, buffer_data(&client->out),
				    buffer_size(&client->out),
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0) {
			was_waiting = errno == EAGAIN;
			break;
		}
		buffer_consume(&client->out, done);
	}
	if (client->fd >= 0 && was_waiting)
		client_watch(client, EPOLL_CTL_MOD);
}

void client_request(struct client *client, const struct hostwalk_frame *frame,
		    const unsigned char *payload)
{
	if (client->dead) {
		client_answer(client, frame, HOSTWALK_NO_SUBJECT);
		return;
	}
	if (client->busy || client->reaping) {
		client_answer(client, frame, HOSTWALK_BAD_OP);
		return;
	}
	client->busy = true;
	client->request = *frame;
	if (frame->op == HOSTWALK_OP_FORK || frame->op == HOSTWALK_OP_THREAD)
		client->request.args[7] = ++last_number;
	client->request.magic = HOSTWALK_MAGIC;
	buffer_append(&client->out, &client->request, sizeof(*frame));
	buffer_append(&client->out, payload, frame->size);
	client_flush(client);
}

void client_reap(struct client *client, const struct hostwalk_frame *request)
{
	if (client->reaping) {
		client_answer(client, request, HOSTWALK_BAD_OP);
		return;
	}
	client->reaping = true;
	client->reap = *request;
	if (client->dead)
		client_died(client, client->status);
	else if (client->pid == client->process)
		kill(client->process, SIGKILL);
	else
		shutdown(client->fd, SHUT_WR);	/* a thread leaves by itself */
}

/*
 * The socket is closed. SIGCHLD says how the process ended, except where that
 * came before the process was known here; a thread that was told to leave just
 * does.
 */
static void client_ended(struct client *client)
{
	int status = 0;
	int pid;

	client_hang_up(client);
	if (client->pid != client->process) {
		if (client->reaping)
			client_died(client, 0);
		return;
	}
	pid = waitpid(client->process, &status, WNOHANG | __WALL);
	if (pid)
		process_died(client->process, pid < 0 ? 0 : status);
}

void client_event(struct client *client, __u32 events)
{
	if (events & EPOLLOUT) {
		client_flush(client);
		client_watch(client, EPOLL_CTL_MOD);
	}
	if ((events & ~EPOLLOUT) && !client_receive(client))
		client_ended(client);
}

void clients_forget_requests(void)
{
	struct client *client;

	for (client = clients; client; client = client->next) {
		client->request.magic = 0;
		client->reap.magic = 0;
	}
}
