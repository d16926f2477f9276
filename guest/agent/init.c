// SPDX-License-Identifier: GPL-2.0
/* What an init does before the work starts: mounts, modules, the port. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "ports.h"

#define PORT_SECONDS	30

static void say(const char *format, va_list arguments)
{
	char line[512];

	vsnprintf(line, sizeof(line), format, arguments);
	dprintf(2, "hostwalk-agent: %s\n", line);
}

/* Power off rather than panic: the host then sees a guest that gave up. */
_Noreturn void fatal(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
	if (getpid() == 1) {
		sync();
		reboot(RB_POWER_OFF);
	}
	_exit(1);
}

void warn(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
}

static void mount_all(void)
{
	static const struct {
		const char *where;
		const char *type;
		bool needed;
	} mounts[] = {
		{ "/proc", "proc", true },
		{ "/sys", "sysfs", true },
		{ "/dev", "devtmpfs", true },
		{ "/tmp", "tmpfs", true },
		{ "/sys/kernel/debug", "debugfs", false },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].where, 0755);
		if (mount("none", mounts[i].where, mounts[i].type, 0, NULL) &&
		    errno != EBUSY && mounts[i].needed)
			fatal("cannot mount %s on %s: %s", mounts[i].type,
			      mounts[i].where, strerror(errno));
	}
}

/* An initramfs without /dev/console leaves PID 1 without standard files. */
static void open_console(void)
{
	int fd;

	if (fcntl(2, F_GETFD) >= 0)
		return;
	fd = open("/dev/console", O_RDWR | O_NOCTTY);
	while (fd >= 0 && fd < 2)
		fd = dup(fd);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		warn("cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* Words "hostwalk.name=value" of the command line, as "name=value ...". */
static void exerciser_parameters(char *parameters, size_t room)
{
	static const char prefix[] = "hostwalk.";
	char line[4096] = "";
	char *save = NULL;
	char *word;
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	*parameters = '\0';
	if (fd < 0 || read(fd, line, sizeof(line) - 1) < 0)
		return;
	close(fd);
	for (word = strtok_r(line, "\n ", &save); word;
	     word = strtok_r(NULL, "\n ", &save)) {
		size_t used = strlen(parameters);

		if (!strncmp(word, prefix, strlen(prefix)))
			snprintf(parameters + used, room - used, "%s ",
				 word + strlen(prefix));
	}
}

static void load_module(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fatal("cannot open %s: %s", path, strerror(errno));
	if (syscall(SYS_finit_module, fd, parameters, 0) && errno != EEXIST)
		fatal("cannot load %s: %s", path, strerror(errno));
	close(fd);
}

static int is_module(const struct dirent *entry)
{
	const char *suffix = strrchr(entry->d_name, '.');

	return suffix && !strcmp(suffix, ".ko");
}

static void load_modules(void)
{
	struct dirent **entries;
	char parameters[1024];
	char path[512];
	int count = scandir("/modules", &entries, is_module, alphasort);
	int i;

	for (i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "/modules/%s", entries[i]->d_name);
		load_module(path, "");
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	if (access("/hostwalk.ko", F_OK))
		return;
	exerciser_parameters(parameters, sizeof(parameters));
	load_module("/hostwalk.ko", parameters);
}

/* Same inputs, same run: addresses are fixed, and pages are not moved behind a subject's back. */
static void hold_still(void)
{
	static const char compaction[] = "/proc/sys/vm/compaction_proactiveness";

	write_file("/proc/sys/kernel/randomize_va_space", "0");
	if (!access(compaction, F_OK))
		write_file(compaction, "0");
}

void init_system(void)
{
	mount_all();
	open_console();
	hold_still();
	load_modules();
}

int init_find_port(void)
{
	int fd = ports_open(HOSTWALK_PORT, PORT_SECONDS * 1000);

	if (fd < 0)
		fatal("no virtio-serial port named %s within %d s",
		      HOSTWALK_PORT, PORT_SECONDS);
	return fd;
}
