// SPDX-License-Identifier: GPL-2.0
/*
 * One command in a cgroup of its own. What it leaves running ends with it, so
 * that nothing waits for output of a process in the background, or, as a whole,
 * when no process has its output any more, as behind a pipe of a shell.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "login.h"

#define PATHS		"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define PROCESSES	"256"
#define END_MS		10000
#define ROOM		65536

static char group[256];

static const char *in_group(const char *file)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", group, file);
	return path;
}

/* The number after a word in a file of the cgroup, 0 if there is none. */
static long number_in(const char *file, const char *word)
{
	char text[512] = "", *found;
	int fd = open(in_group(file), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		*text = '\0';
	close(fd);
	found = strstr(text, word);
	return found ? atol(found + strlen(word)) : 0;
}

static bool name_group(const char *name)
{
	if (!*name || strchr(name, '/') || *name == '.')
		return false;
	return snprintf(group, sizeof(group), CGROUPS "/%s", name) < (int)sizeof(group);
}

static bool limit(const char *file, const char *value)
{
	if (!write_file(in_group(file), value))
		return true;
	say("no bound on %s: %s", file, strerror(errno));
	return false;
}

/* What is free now, less what the kernel, the agent and SSH may come to need. */
static long memory_bound(void)
{
	char text[512] = "", *found;
	int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return 0;
	close(fd);
	found = strstr(text, "MemAvailable:");
	return found ? atol(found + strlen("MemAvailable:")) / 1024 * 3 / 4 : 0;
}

static bool make_group(long megabytes)
{
	char bytes[32];

	if (mkdir(group, 0755) && errno == EEXIST)
		exit(128 + SIGKILL);
	if (access(in_group("cgroup.procs"), F_OK)) {
		say("no bounds: this kernel has no cgroups: %s", strerror(errno));
		rmdir(group);
		return false;
	}
	limit("pids.max", PROCESSES);
	if (megabytes > 0) {
		snprintf(bytes, sizeof(bytes), "%ldM", megabytes);
		limit("memory.max", bytes);
		limit("memory.oom.group", "1");
	}
	return true;
}

static void kill_group(void)
{
	struct pollfd events = { .events = POLLPRI };
	int left = END_MS;

	if (write_file(in_group("cgroup.kill"), "1"))
		return;
	events.fd = open(in_group("cgroup.events"), O_RDONLY | O_CLOEXEC);
	while (events.fd >= 0 && number_in("cgroup.events", "populated ") && left > 0) {
		poll(&events, 1, 100);
		left -= 100;
	}
	if (events.fd >= 0)
		close(events.fd);
}

/*
 * The bound was met if the cgroup itself ran out of memory ("oom"); "oom_kill"
 * counts what was killed for want of the guest's memory, too.
 */
static void tell_memory(long megabytes)
{
	long killed = number_in("memory.events", "oom_kill ");

	if (number_in("memory.events", "oom "))
		say("out of memory: the bound of %ld MiB was met, %s", megabytes,
		    killed ? "all its processes were killed" : "none was killed");
	else if (killed)
		say("out of memory: the guest has no more, its kernel killed %ld of the processes",
		    killed);
}

/* Which bounds the command met: its own words may not say. */
static void tell_bounds(long megabytes)
{
	if (number_in("pids.events", "max "))
		say("the bound of " PROCESSES " processes was met");
	tell_memory(megabytes);
}

/* Unlike execvp(3), never takes what is no program for a shell script. */
static int execute(char **argv, char *path, size_t room)
{
	const char *place = PATHS;
	int error = ENOENT;

	snprintf(path, room, "%s", argv[0]);
	if (strchr(argv[0], '/')) {
		execv(path, argv);
		return errno;
	}
	while (*place) {
		int length = strcspn(place, ":");

		snprintf(path, room, "%.*s/%s", length, place, argv[0]);
		if (!access(path, F_OK)) {
			execv(path, argv);
			return errno;
		}
		place += length + (place[length] == ':');
	}
	return error;
}

/* Whether "login end" came: before the command was in its cgroup, or since. */
static bool is_ended(void)
{
	char text[8] = "";
	int fd = open(in_group("pids.max"), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		*text = '\0';
	close(fd);
	return *text == '0';
}

/*
 * The host finds the process by its name, and lets it go by a byte: the first
 * of the standard input, whose end will do as well.
 */
static void wait_to_go(const char *name)
{
	char byte;

	prctl(PR_SET_NAME, name);
	while (read(0, &byte, 1) < 0 && errno == EINTR)
		;
}

static _Noreturn void child(char **argv, bool grouped, const char *held, int output)
{
	char path[4096];

	if (output >= 0) {
		dup2(output, 1);
		dup2(output, 2);
	}
	if (grouped && write_file(in_group("cgroup.procs"), "0"))
		fail("cannot enter %s: %s", group, strerror(errno));
	if (grouped && is_ended())
		_exit(128 + SIGKILL);
	if (held)
		wait_to_go(held);
	setenv("PATH", PATHS, 1);
	setenv("LANG", "C.UTF-8", 0);
	_exit(refusal(argv[0], path, execute(argv, path, sizeof(path))));
}

static int wait_for(int pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("cannot wait: %s", strerror(errno));
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static bool write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t done = write(fd, data, size);

		if (done < 0 && errno != EINTR)
			return false;
		if (done > 0) {
			data += done;
			size -= done;
		}
	}
	return true;
}

/* Pass on what is written to a pipe until no process can write to it any more. */
static void relay(int from)
{
	static char data[ROOM];
	bool well = true;

	while (well) {
		ssize_t size = read(from, data, sizeof(data));

		if (size > 0)
			well = write_all(1, data, size);
		else
			well = size < 0 && errno == EINTR;
	}
	close(from);
}

/* The command that began ended by itself, others that had its output were killed. */
static void tell_rest(int status)
{
	if (is_ended() && status != 128 + SIGKILL)
		say("it ended with status %d, what it left running had its output still", status);
}

int run(char **argv, enum run_mode mode)
{
	long megabytes = memory_bound();
	int output[2] = { -1, -1 };
	bool grouped;
	int pid, status;

	if (!name_group(argv[0]))
		fail("not a name of a run: %s", argv[0]);
	grouped = make_group(megabytes);
	if (mode == RUN_WHOLE && pipe2(output, O_CLOEXEC))
		fail("cannot make a pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		fail("cannot fork: %s", strerror(errno));
	if (!pid)
		child(argv + 1, grouped, mode == RUN_HELD ? argv[0] : NULL, output[1]);
	if (mode == RUN_WHOLE) {
		close(output[1]);
		relay(output[0]);
	}
	status = wait_for(pid);
	if (grouped) {
		kill_group();
		tell_bounds(megabytes);
		if (mode == RUN_WHOLE)
			tell_rest(status);
		rmdir(group);
	}
	return status;
}

int end(const char *name)
{
	if (!name_group(name))
		fail("not a name of a run: %s", name);
	/* Left behind where the command has not begun, which it then does not. */
	if (mkdir(group, 0755)) {
		write_file(in_group("pids.max"), "0");
		kill_group();
	}
	return 0;
}
