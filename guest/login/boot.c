// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "login.h"

#define AGENT		"/init"
#define NAME		"guest"
#define CONSOLES	"/sys/class/tty/console/active"

/* The agent mounts the first three, too, and takes them as they are. */
static void mount_all(void)
{
	static const char *const mounts[][3] = {
		{ "proc", "/proc", NULL },
		{ "sysfs", "/sys", NULL },
		{ "devtmpfs", "/dev", NULL },
		{ "devpts", "/dev/pts", "mode=620,ptmxmode=666" },
		{ "tmpfs", "/dev/shm", NULL },
		{ "cgroup2", CGROUPS, NULL },
	};
	size_t i;

	for (i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i][1], 0755);
		if (mount("none", mounts[i][1], mounts[i][0], 0, mounts[i][2]) &&
		    errno != EBUSY)
			say("cannot mount %s: %s", mounts[i][1], strerror(errno));
	}
}

/* Names that scripts and a shell's <(command) take for granted, as udev makes them. */
static void link_streams(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};
	size_t i;

	for (i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (symlink(links[i][0], links[i][1]) && errno != EEXIST)
			say("cannot make %s: %s", links[i][1], strerror(errno));
}

/* One at a time, for a kernel may lack one of them. */
static void hand_down_controllers(void)
{
	write_file(CGROUPS "/cgroup.subtree_control", "+cpu");
	write_file(CGROUPS "/cgroup.subtree_control", "+pids");
	write_file(CGROUPS "/cgroup.subtree_control", "+memory");
}

static void install_applets(void)
{
	int pid = fork();

	if (!pid) {
		execl("/bin/busybox", "busybox", "--install", "-s", NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
}

/* The device of the serial console: the last word of the kernel's list. */
static int open_tty(void)
{
	char text[128] = "", path[160], *word;
	int fd = open(CONSOLES, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		fail("the kernel has no console");
	close(fd);
	text[strcspn(text, "\n")] = '\0';
	word = strrchr(text, ' ');
	snprintf(path, sizeof(path), "/dev/%s", word ? word + 1 : text);
	fd = open(path, O_RDWR | O_NOCTTY);
	if (fd < 0)
		fail("cannot open %s: %s", path, strerror(errno));
	return fd;
}

static _Noreturn void shell_on(int fd)
{
	int i;

	setsid();
	ioctl(fd, TIOCSCTTY, 1);
	for (i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
	if (chdir("/root"))
		say("cannot enter /root: %s", strerror(errno));
	setenv("HOME", "/root", 1);
	setenv("TERM", "vt102", 0);
	execl("/bin/bash", "-bash", NULL);
	fail("cannot start a shell: %s", strerror(errno));
}

/* A shell on the console for whoever presses Enter there. */
static _Noreturn void console(void)
{
	for (;;) {
		int fd = open_tty();
		char byte;
		int pid;

		while (read(fd, &byte, 1) == 1 && byte != '\n')
			;
		pid = fork();
		if (!pid)
			shell_on(fd);
		close(fd);
		waitpid(pid, NULL, 0);
	}
}

_Noreturn void boot(void)
{
	mount_all();
	link_streams();
	sethostname(NAME, strlen(NAME));
	hand_down_controllers();
	if (!fork()) {
		install_applets();
		/* Orphans of a session come here: the agent knows none of them. */
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		write_file("/proc/self/oom_score_adj", "-1000");
		if (!fork())
			console();
		door();
	}
	execl(AGENT, AGENT, NULL);
	fail("cannot start %s: %s", AGENT, strerror(errno));
}
