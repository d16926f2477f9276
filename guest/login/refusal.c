// SPDX-License-Identifier: GPL-2.0
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "login.h"

static const char *machine_name(unsigned int machine)
{
	switch (machine) {
	case EM_X86_64:
		return "x86_64";
	case EM_AARCH64:
		return "arm64";
	case EM_386:
		return "32-bit x86";
	case EM_ARM:
		return "32-bit Arm";
	case EM_RISCV:
		return "RISC-V";
	default:
		return "another machine";
	}
}

static bool is_elf(const unsigned char *head, ssize_t size)
{
	return size >= (ssize_t)sizeof(Elf64_Ehdr) && !memcmp(head, ELFMAG, SELFMAG);
}

/* The program interpreter of a 64-bit ELF file or the word after #!, "" if there is none. */
static void find_interpreter(int fd, const unsigned char *head, ssize_t size,
			     char *name, size_t room)
{
	Elf64_Ehdr header;
	Elf64_Phdr part;
	int i;

	*name = '\0';
	if (size > 2 && !memcmp(head, "#!", 2)) {
		char format[32];

		snprintf(format, sizeof(format), "#! %%%zus", room - 1);
		if (sscanf((const char *)head, format, name) != 1)
			*name = '\0';
		return;
	}
	if (!is_elf(head, size) || head[EI_CLASS] != ELFCLASS64)
		return;
	memcpy(&header, head, sizeof(header));
	for (i = 0; i < header.e_phnum; i++) {
		off_t at = header.e_phoff + i * sizeof(part);

		if (pread(fd, &part, sizeof(part), at) != sizeof(part))
			return;
		if (part.p_type != PT_INTERP)
			continue;
		if (pread(fd, name, room - 1, part.p_offset) <= 0)
			*name = '\0';
		return;
	}
}

static int not_executable(const char *name, const unsigned char *head, ssize_t size)
{
	struct utsname here;
	Elf64_Ehdr header;

	uname(&here);
	if (!is_elf(head, size)) {
		say("%s: exec format error: it is neither an ELF program nor a script with #!",
		    name);
		return STATUS_REFUSED;
	}
	memcpy(&header, head, sizeof(header));
	say("%s: exec format error: it is a program for %s, this guest is %s", name,
	    machine_name(header.e_machine),
	    !strcmp(here.machine, "aarch64") ? "arm64" : here.machine);
	return STATUS_REFUSED;
}

int refusal(const char *name, const char *path, int error)
{
	unsigned char head[256] = "";
	char interpreter[256] = "";
	ssize_t size;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		if (error != ENOENT || strchr(name, '/'))
			say("%s: %s", name, strerror(error));
		else if (access(name, X_OK))
			say("%s: command not found", name);
		else
			say("%s: command not found, but ./%s is here", name, name);
		return error == ENOENT ? STATUS_NOT_FOUND : STATUS_REFUSED;
	}
	size = read(fd, head, sizeof(head) - 1);
	if (error == ENOENT)
		find_interpreter(fd, head, size, interpreter, sizeof(interpreter));
	close(fd);
	if (error == ENOEXEC)
		return not_executable(name, head, size);
	if (*interpreter) {
		say("%s: cannot be run: its interpreter %s is not in the guest", name, interpreter);
		return STATUS_NOT_FOUND;
	}
	say("%s: %s", name, strerror(error));
	return STATUS_REFUSED;
}
