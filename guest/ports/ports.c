// SPDX-License-Identifier: GPL-2.0
/*
 * Virtio-serial ports by the names that the host gave them. They come whenever
 * their driver has found them, which the kernel announces.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ports.h"

#define PORTS		"/sys/class/virtio-ports"
#define AGAIN_MS	100

static bool has_name(const char *device, const char *name)
{
	char path[512], text[64] = "";
	int fd;

	snprintf(path, sizeof(path), PORTS "/%s/name", device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		*text = '\0';
	close(fd);
	text[strcspn(text, "\n")] = '\0';
	return !strcmp(text, name);
}

/* A file descriptor of the port, or -1 while there is none. */
static int try_port(const char *name)
{
	DIR *directory = opendir(PORTS);
	struct dirent *entry;
	char path[512];
	int fd = -1;

	if (!directory)
		return -1;
	while (fd < 0 && (entry = readdir(directory))) {
		if (!has_name(entry->d_name, name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	}
	closedir(directory);
	return fd;
}

/* The kernel announces devices on this socket; -1 on a kernel without one. */
static int open_uevents(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			NETLINK_KOBJECT_UEVENT);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until something is announced; without announcements for a moment. */
static void wait_for_news(int uevents, long left)
{
	struct pollfd news = { .fd = uevents, .events = POLLIN };
	char event[4096];

	if (uevents < 0 && (left < 0 || left > AGAIN_MS))
		left = AGAIN_MS;
	if (poll(&news, 1, left) > 0)
		while (recv(uevents, event, sizeof(event), 0) > 0)
			;
}

int ports_open(const char *name, long timeout_ms)
{
	long deadline = now_ms() + timeout_ms;
	int uevents = open_uevents();
	int fd;

	while ((fd = try_port(name)) < 0) {
		long left = timeout_ms < 0 ? -1 : deadline - now_ms();

		if (timeout_ms >= 0 && left <= 0)
			break;
		wait_for_news(uevents, left);
	}
	if (uevents >= 0)
		close(uevents);
	return fd;
}
