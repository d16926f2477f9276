// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "login.h"

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

/* The agent loads the driver; a machine whose host never gave it a port waits for ever. */
int port_open(const char *name)
{
	struct pollfd uevents = { .fd = open_uevents(), .events = POLLIN };
	char event[4096];
	int fd;

	while ((fd = try_port(name)) < 0) {
		poll(&uevents, 1, uevents.fd < 0 ? AGAIN_MS : -1);
		while (uevents.fd >= 0 && recv(uevents.fd, event, sizeof(event), 0) > 0)
			;
	}
	if (uevents.fd >= 0)
		close(uevents.fd);
	return fd;
}
