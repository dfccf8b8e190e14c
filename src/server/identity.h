/* SPDX-License-Identifier: MIT */
/*
 * identity - who is at the other end of a Unix socket, as the kernel knows it; what the peer says
 * of itself counts for nothing. The facts of a process are read while a pidfd holds it: a PID that
 * has been given to somebody else in the meantime is found out, and its facts are dropped.
 */
#ifndef SERVER_IDENTITY_H
#define SERVER_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

#define IDENTITY_MAX_GROUPS 256 /* supplementary groups that are looked at */
#define IDENTITY_TEXT       256 /* bytes of each text, with its final zero */

struct identity {
	uid_t uid; /* (uid_t)-1: not known */
	gid_t gid; /* (gid_t)-1: not known */
	pid_t pid; /* as seen from here; 0: not known (another PID namespace) */
	gid_t groups[IDENTITY_MAX_GROUPS];
	unsigned n_groups;
	bool groups_cut; /* it has more groups than fit, or they could not be learnt */

	/* What follows is "" where it could not be learnt, or does not fit. It is what was true
	 * when the socket was connected or later; a process can change it (execve). Non-printable
	 * bytes are '?'. The executable is readable for root and the process' own user only. */
	char executable[IDENTITY_TEXT]; /* path */
	char cgroup[IDENTITY_TEXT];     /* path in the unified hierarchy, "/machine.slice/..." */
	char machine[IDENTITY_TEXT];    /* name of the virtual machine, from its machine scope */
	char label[IDENTITY_TEXT];      /* security label: SELinux context or AppArmor profile */
};

#define IDENTITY_INIT                                                                              \
	{                                                                                          \
		.uid = (uid_t)-1, .gid = (gid_t)-1                                                 \
	}

/*
 * Learn who has connected to `sock`. What cannot be learnt stays empty: 0 as long as the user is
 * known, else -errno of SO_PEERCRED, -ENOTCONN. `proc` is the place of the process file system,
 * "/proc" but in tests. Blocks on nothing but files of procfs.
 */
int identity_of_socket(int sock, const char *proc, struct identity *identity);

/*
 * The machine's name in a cgroup path: systemd-machined's scopes machine-NAME.scope and
 * machine-qemu\x2dNUMBER\x2dNAME.scope (libvirt; escapes undone, "qemu-" and number taken off),
 * below slices only. libvirt leaves out of NAME all but letters, digits, '-' and '.', and what is
 * too long for a machine's name. "" if it is in no machine scope. Pure.
 */
void identity_machine_of_cgroup(const char *cgroup, char machine[IDENTITY_TEXT]);

bool identity_in_group(const struct identity *identity, gid_t gid);

#endif
