/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef CTRWATCH_EVENT_H
#define CTRWATCH_EVENT_H

/*
 * One record of the ring buffer.  core/wire.py mirrors it, and
 * tests/unit/test_wire.py compiles this file and compares every offset.
 * Fixed widths, largest first, no implicit padding.  A record is as long as
 * what it carries: the head, path_len bytes of path, argv_len bytes of argv.
 */
#define CTRWATCH_WIRE_VERSION 1
#define CTRWATCH_PATH_MAX 1024 /* TRACE_CGROUP_PATH_LEN, kernel/cgroup/cgroup-internal.h */
#define CTRWATCH_ARGV_MAX 4096 /* longest OCI command line met: 640 bytes; an argv has no limit */
#define CTRWATCH_COMM_LEN 16   /* TASK_COMM_LEN, include/linux/sched.h */

enum ctrwatch_kind {
	CTRWATCH_MKDIR = 1,
	CTRWATCH_RMDIR = 2,
	CTRWATCH_ATTACH = 3, /* the first task to enter a cgroup made while we run */
	CTRWATCH_EXEC = 4,   /* the first program in it, in a mount namespace of its own */
	CTRWATCH_INIT = 5,   /* in it, the first process of a pid namespace; it has run nothing yet */
};

enum ctrwatch_flag {
	CTRWATCH_ARGV_CUT = 1, /* the command line is longer than CTRWATCH_ARGV_MAX */
};

struct ctrwatch_record {
	__u64 boot_ns; /* CLOCK_BOOTTIME */
	__u64 cgroup_id;
	__u64 parent_id;
	__u64 lost;	/* records dropped since attach, when this one was made */
	__u64 start_ns; /* CLOCK_BOOTTIME of the task's start */
	__u32 hierarchy_id;
	__u32 level;
	__u32 pid;
	__u32 tid;
	__u32 ppid;
	__u32 uid;
	__u32 gid;
	__u32 mnt_ns;
	__u32 pid_ns;
	__u16 cpu;
	__u16 path_len;
	__u16 argv_len;
	__u8 kind;
	__u8 flags;
	__u8 version;
	__u8 reserved[11];
	char comm[CTRWATCH_COMM_LEN];
	char data[];
};

_Static_assert(__builtin_offsetof(struct ctrwatch_record, data) == sizeof(struct ctrwatch_record),
	       "implicit padding before data");
_Static_assert(sizeof(struct ctrwatch_record) == 112, "wire layout changed: bump the version");

#endif
