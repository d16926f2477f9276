// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent.h"

static bool is_init;
static __u64 fork_number;

static void answer(const struct hostwalk_frame *request, __u32 status)
{
	struct hostwalk_frame reply = *request;

	memset(reply.args, 0, sizeof(reply.args));
	reply.size = 0;
	reply.status = status;
	port_send(&reply, NULL);
}

static void hello(const struct hostwalk_frame *request)
{
	struct hostwalk_frame reply = *request;
	struct utsname name;

	if (request->args[0])
		fork_number = request->args[0];
	uname(&name);
	memset(reply.args, 0, sizeof(reply.args));
	reply.status = HOSTWALK_OK;
	reply.size = strlen(name.release);
	reply.args[0] = HOSTWALK_ABI_VERSION;
	reply.args[1] = sysconf(_SC_PAGESIZE);
	reply.args[2] = sysconf(_SC_NPROCESSORS_ONLN);
	reply.args[3] = fork_number;
	port_send(&reply, name.release);
}

static void reap(const struct hostwalk_frame *request)
{
	struct client *client = client_find(request->args[0]);

	if (client)
		client_reap(client, request);
	else
		answer(request, HOSTWALK_NO_SUBJECT);
}

static void crash(const struct hostwalk_frame *request)
{
	int fd;

	switch (request->args[0]) {
	case HOSTWALK_CRASH_PANIC:
		fd = is_init ? open("/proc/sysrq-trigger", O_WRONLY) : -1;
		if (fd < 0 || write(fd, "c", 1) != 1)
			answer(request, HOSTWALK_BAD_OP);
		break;
	case HOSTWALK_CRASH_INIT_EXIT:
		_exit(1);
	case HOSTWALK_CRASH_MUTE:
		for (;;)
			pause();
	default:
		answer(request, HOSTWALK_BAD_OP);
	}
}

static void broker_own(const struct hostwalk_frame *frame)
{
	switch (frame->op) {
	case HOSTWALK_OP_HELLO:
		hello(frame);
		break;
	case HOSTWALK_OP_SPAWN:
		client_spawn(frame);
		break;
	case HOSTWALK_OP_REAP:
		reap(frame);
		break;
	case HOSTWALK_OP_CRASH:
		crash(frame);
		break;
	default:
		answer(frame, HOSTWALK_BAD_OP);
	}
}

void broker_request(const struct hostwalk_frame *frame,
		    const unsigned char *payload)
{
	struct client *client;

	if (!frame->subject) {
		broker_own(frame);
		return;
	}
	client = client_find(frame->subject);
	if (client)
		client_request(client, frame, payload);
	else
		answer(frame, HOSTWALK_NO_SUBJECT);
}

static int watch_children(int epoll)
{
	struct epoll_event event = { .events = EPOLLIN };
	sigset_t mask;
	int fd;

	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	event.data.ptr = &is_init;
	if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		fatal("signalfd: %s", strerror(errno));
	return fd;
}

static void dispatch(const struct epoll_event *event, int children)
{
	struct signalfd_siginfo info;

	if (!event->data.ptr) {
		port_event(event->events);
	} else if (event->data.ptr == &is_init) {
		while (read(children, &info, sizeof(info)) > 0)
			;
		clients_died();
	} else {
		client_event(event->data.ptr, event->events);
	}
}

_Noreturn void broker_run(int port, bool exit_at_end)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event;
	int children;

	if (epoll < 0)
		fatal("epoll: %s", strerror(errno));
	is_init = getpid() == 1;
	children = watch_children(epoll);
	clients_start(epoll);
	port_open(epoll, port, exit_at_end);
	/* One event at a time: handling one may free what the next is about. */
	for (;;) {
		if (epoll_wait(epoll, &event, 1, -1) == 1)
			dispatch(&event, children);
	}
}
