/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What lets somebody into the guest. As PID 1 it makes ready what a user land
 * needs, leaves two processes behind, the door and a shell that waits on the
 * console, and becomes the agent. Through the door comes an SSH connection;
 * what is run there is started and kept within bounds by "login run".
 */
#ifndef HOSTWALK_LOGIN_H
#define HOSTWALK_LOGIN_H

#include <stddef.h>

#define LOGIN_PORT	"hostwalk.ssh"
#define LOGIN_MAGIC	0x48535748u	/* "HWSH" */
#define LOGIN_KEY_MAX	4096
#define CGROUPS		"/sys/fs/cgroup"

/* As in env(1) and a shell. */
#define STATUS_FAILED		125
#define STATUS_REFUSED		126
#define STATUS_NOT_FOUND	127

/*
 * What the host sends before SSH begins: the key that the server shows, as
 * dropbear keeps it, and the line of authorized_keys. Little endian.
 */
struct login_header {
	unsigned int magic;
	unsigned int host_key;		/* bytes */
	unsigned int authorized;	/* bytes */
};

/* main.c */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int write_file(const char *path, const char *text);

/* boot.c: what PID 1 does before it is the agent. */
_Noreturn void boot(void);

/* door.c: one SSH connection after the other. */
_Noreturn void door(void);

/*
 * run.c: one command within bounds. Held, it waits until the host lets it go; as
 * a whole it is over when no process has its output any more.
 */
enum run_mode { RUN_PLAIN, RUN_HELD, RUN_WHOLE };

int run(char **argv, enum run_mode mode);
int end(const char *name);

/* refusal.c: says why a program cannot be run and returns the status for it. */
int refusal(const char *name, const char *path, int error);

#endif
