// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "login.h"

static void vsay(const char *format, va_list arguments)
{
	char line[1024];

	vsnprintf(line, sizeof(line), format, arguments);
	dprintf(2, "hostwalk: %s\n", line);
}

void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsay(format, arguments);
	va_end(arguments);
}

_Noreturn void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsay(format, arguments);
	va_end(arguments);
	_exit(STATUS_FAILED);
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t done = fd < 0 ? -1 : write(fd, text, strlen(text));
	int error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return done < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	if (getpid() == 1)
		boot();
	if (argc > 3 && !strcmp(argv[1], "run"))
		return run(argv + 2, RUN_PLAIN);
	if (argc > 3 && !strcmp(argv[1], "hold"))
		return run(argv + 2, RUN_HELD);
	if (argc > 3 && !strcmp(argv[1], "whole"))
		return run(argv + 2, RUN_WHOLE);
	if (argc == 3 && !strcmp(argv[1], "end"))
		return end(argv[2]);
	dprintf(2, "usage: %s run|hold|whole NAME COMMAND [ARGUMENT...]\n"
		"       %s end NAME\n"
		"As PID 1 it needs no arguments.\n", argv[0], argv[0]);
	return STATUS_FAILED;
}
