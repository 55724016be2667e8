// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * What the kernel says of a container's birth and death.
 *
 * Five BTF-typed raw tracepoints, one ring buffer.  Nothing is decided here but
 * what cannot be decided later: whose first task, whose first instruction.
 * No helper fails in silence: a record that can't be sent is counted in `lost`,
 * and every record carries that count.
 *
 * Kernel structures are declared with only the fields we read; CO-RE finds
 * their places in the running kernel (5.11 and later: bpf_get_current_task_btf).  They are
 * read as C reads them, which the verifier allows for what the tracepoint gives:
 * a load each, where bpf_probe_read_kernel() is a call each, of a tenth of a
 * microsecond.  A pointer that leads nowhere reads as 0.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "event.h"

char LICENSE[] SEC("license") = "GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[14]; /* its true length is asked of the kernel */
	struct cgroup *dfl_cgrp;
	struct css_set *dom_cset; /* itself, but for threaded cgroups of the unified hierarchy */
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct pid_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
};

typedef struct {
	unsigned int val;
} kuid_t;

typedef struct {
	unsigned int val;
} kgid_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
};

/* include/linux/sched/signal.h; copy_process() sets it for the first of a pid namespace. */
#define SIGNAL_UNKILLABLE 0x00000040

struct signal_struct {
	unsigned int flags;
};

struct task_struct {
	int pid;
	int tgid;
	__u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
	const struct cred *cred;
	struct css_set *cgroups;
	struct signal_struct *signal;
	char comm[16];
};

/* Before 5.5 the field was called real_start_time; the ring buffer is younger. */

struct linux_binprm {
	const char *filename;
};

#pragma clang attribute pop

/* A burst of 1,000 births on a hybrid host is 30,000 records of some 300 bytes: 9 MB.
 * It is memory only while it is full of unread records; 8 MB hold what a reader that
 * is away for a second misses on the busiest host measured. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

/* Cgroups made while we run, until they have started or are gone.  An LRU, so
 * that it can't fill: a host makes a few hundred such cgroups at a time. */
struct newborn_key {
	__u64 cgroup_id;
	__u32 hierarchy_id;
	__u32 reserved;
};

struct newborn {
	__u32 outside; /* mount namespace of the one who made it: not yet the container's */
	__u8 entered;
	__u8 started;
	__u8 init; /* its first process has been told */
	__u8 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct newborn_key);
	__type(value, struct newborn);
} newborns SEC(".maps");

/* Records are put together here: a record is larger than the 512-byte stack.  One
 * slot for each program: while one is preempted, another may run on this CPU. */
#define HEAD sizeof(struct ctrwatch_record)
#define ROOM (CTRWATCH_PATH_MAX + CTRWATCH_ARGV_MAX)

union scratch {
	struct ctrwatch_record record;
	char bytes[HEAD + ROOM];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, union scratch);
} scratches SEC(".maps");

/* The others' slots are their records' kinds. */
#define FORK_SLOT 6
#define FORK_INIT_SLOT 7

__u64 lost; /* read by user space too, for losses that no later record reports */

static __always_inline struct newborn_key key_of(struct cgroup *cgrp)
{
	struct newborn_key key = {
		.cgroup_id = cgrp->kn->id,
		.hierarchy_id = cgrp->root->hierarchy_id,
	};
	return key;
}

static __always_inline __u32 mount_namespace(struct task_struct *task)
{
	return task->nsproxy->mnt_ns->ns.inum;
}

static __always_inline union scratch *fill_slot(__u32 slot, __u8 kind, struct cgroup *cgrp,
						 struct task_struct *task)
{
	union scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	if (!scratch) /* the slot is there: this is for the verifier */
		return NULL;

	struct ctrwatch_record *r = &scratch->record;
	struct newborn_key key = key_of(cgrp);

	__builtin_memset(r, 0, sizeof(*r));
	r->version = CTRWATCH_WIRE_VERSION;
	r->kind = kind;
	r->boot_ns = bpf_ktime_get_boot_ns();
	r->cpu = bpf_get_smp_processor_id();
	r->lost = lost;
	r->cgroup_id = key.cgroup_id;
	r->hierarchy_id = key.hierarchy_id;
	r->level = cgrp->level;
	r->parent_id = cgrp->self.parent->cgroup->kn->id;
	r->pid = task->tgid;
	r->tid = task->pid;
	r->ppid = task->real_parent->tgid;
	r->uid = task->cred->uid.val;
	r->gid = task->cred->gid.val;
	r->start_ns = task->start_boottime;
	r->mnt_ns = mount_namespace(task);
	r->pid_ns = task->nsproxy->pid_ns_for_children->ns.inum;
	bpf_probe_read_kernel_str(r->comm, sizeof(r->comm), task->comm);
	return scratch;
}

static __always_inline union scratch *fill(__u8 kind, struct cgroup *cgrp,
					    struct task_struct *task)
{
	return fill_slot(kind, kind, cgrp, task);
}

static __always_inline void add_path(union scratch *scratch, const char *path)
{
	long n = bpf_probe_read_kernel_str(scratch->record.data, CTRWATCH_PATH_MAX, path);
	scratch->record.path_len = n > 0 ? n - 1 : 0; /* without its NUL */
}

/* The command line as it is now, from the current task's own memory. */
static __always_inline void add_argv(union scratch *scratch, struct task_struct *task)
{
	struct ctrwatch_record *r = &scratch->record;
	unsigned long start = task->mm->arg_start;
	unsigned long length = task->mm->arg_end - start;
	__u32 at = r->path_len & (CTRWATCH_PATH_MAX - 1); /* it is less: for the verifier */

	if (length > CTRWATCH_ARGV_MAX) {
		length = CTRWATCH_ARGV_MAX;
		r->flags |= CTRWATCH_ARGV_CUT;
	}
	if (!length)
		return;
	if (bpf_probe_read_user(&scratch->bytes[HEAD + at], length, (const void *)start) == 0)
		r->argv_len = length;
	/* else: paged out, or a kernel thread; user space falls back to /proc */
}

/* The first record that finds the reader at rest calls it; what follows it lets gather.  But a
 * container's first task is what events wait for: of some hierarchies' one is enough. */
static __always_inline bool is_urgent(const struct ctrwatch_record *r)
{
	return r->kind == CTRWATCH_INIT || (r->kind == CTRWATCH_ATTACH && !r->hierarchy_id);
}

static __always_inline void send(union scratch *scratch)
{
	__u64 size = HEAD + scratch->record.path_len + scratch->record.argv_len;
	if (size > sizeof(*scratch)) /* never: for the verifier */
		size = sizeof(*scratch);
	__u64 flags = is_urgent(&scratch->record) ? BPF_RB_FORCE_WAKEUP : 0;

	if (bpf_ringbuf_output(&ring, scratch, size, flags))
		__sync_fetch_and_add(&lost, 1);
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(on_mkdir, struct cgroup *cgrp, const char *path)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct newborn_key key = key_of(cgrp);
	struct newborn newborn = {.outside = mount_namespace(task)};

	bpf_map_update_elem(&newborns, &key, &newborn, BPF_ANY);

	union scratch *scratch = fill(CTRWATCH_MKDIR, cgrp, task);
	if (!scratch)
		return 0;
	add_path(scratch, path);
	add_argv(scratch, task);
	send(scratch);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(on_rmdir, struct cgroup *cgrp, const char *path)
{
	struct newborn_key key = key_of(cgrp);

	bpf_map_delete_elem(&newborns, &key); /* it may not be there: older than we are */

	union scratch *scratch = fill(CTRWATCH_RMDIR, cgrp, bpf_get_current_task_btf());
	if (!scratch)
		return 0;
	add_path(scratch, path);
	send(scratch);
	return 0;
}

/* The container's first process, where it has a pid namespace of its own: the OCI runtime's last
 * fork, some 10 ms before that process runs anything of the container's. */
static __always_inline bool is_init(struct task_struct *task)
{
	return task->pid == task->tgid && (task->signal->flags & SIGNAL_UNKILLABLE);
}

/* Whether it is to be told, of that cgroup.  Says so once. */
static __always_inline bool begins_in(struct cgroup *cgrp)
{
	struct newborn_key key = key_of(cgrp);
	struct newborn *newborn = bpf_map_lookup_elem(&newborns, &key);

	if (!newborn || newborn->started || newborn->init)
		return false;
	newborn->init = 1;
	return true;
}

/* Whether this is the first program that is executed in the cgroup by a task that has
 * left the mounts of whoever made it.  Says so once. */
static __always_inline bool starts_in(struct cgroup *cgrp, __u32 mnt_ns)
{
	struct newborn_key key = key_of(cgrp);
	struct newborn *newborn = bpf_map_lookup_elem(&newborns, &key);

	/* An OCI runtime executes itself in the new cgroup before it leaves its own mounts. */
	if (!newborn || newborn->started || newborn->outside == mnt_ns)
		return false;
	newborn->started = 1;
	return true;
}

/* The cgroup of which that is to be told, the unified hierarchy's if there is one; NULL: none.
 * On v1 and hybrid hosts also the other hierarchies': a container in a container may have a
 * cgroup of its own only there.  One record for all.  *kind* is a constant.
 *
 * The others' are the same in dom_cset.  Of a pointer that task->cgroups leads to newer kernels ask,
 * at each load, four times among all their types whether what it leads to may be trusted
 * (btf_nested_type_is_trusted(), kernel/bpf/btf.c): 1.6 ms, fourteen times.  Of this one they don't. */
static __always_inline struct cgroup *told_of(struct css_set *set, __u8 kind, __u32 mnt_ns)
{
	struct cgroup *unified = set->dfl_cgrp, *told = NULL;

	if (kind == CTRWATCH_INIT ? begins_in(unified) : starts_in(unified, mnt_ns))
		told = unified;

	int count = bpf_core_field_size(set->subsys) / sizeof(set->subsys[0]);
	struct cgroup_subsys_state **subsys = set->dom_cset->subsys;
	asm volatile("" : "+r"(subsys)); /* its place is relocated by itself, not in a load */
#pragma clang loop unroll(full)
	for (int i = 0; i < 14; i++) {
		if (i >= count)
			continue;
		struct cgroup *cgrp = subsys[i]->cgroup;
		if (!cgrp->root->hierarchy_id)
			continue;
		if ((kind == CTRWATCH_INIT ? begins_in(cgrp) : starts_in(cgrp, mnt_ns)) && !told)
			told = cgrp;
	}
	return told;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_attach, struct cgroup *cgrp, const char *path, struct task_struct *task)
{
	struct newborn_key key = key_of(cgrp);
	struct newborn *newborn = bpf_map_lookup_elem(&newborns, &key);

	if (!newborn || newborn->entered)
		return 0;
	newborn->entered = 1;
	/* With the systemd driver systemd made the cgroup; the task's parent is the OCI
	 * runtime, and its mount namespace is the one that the container will leave. */
	newborn->outside = mount_namespace(task->real_parent);

	union scratch *scratch = fill(CTRWATCH_ATTACH, cgrp, task);
	if (!scratch)
		return 0;
	add_path(scratch, path);
	send(scratch);

	/* LXC's comes from outside. */
	if (is_init(task) && begins_in(cgrp)) {
		scratch = fill(CTRWATCH_INIT, cgrp, task);
		if (scratch)
			send(scratch);
	}
	return 0;
}

/* A task may be born in its cgroup: crun's clone3(CLONE_INTO_CGROUP), which is for the unified
 * hierarchy only, passes by cgroup_attach_task.  The path is the one of the mkdir. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct css_set *set = child->cgroups;
	struct cgroup *cgrp = set->dfl_cgrp;
	struct newborn_key key = key_of(cgrp);
	struct newborn *newborn = bpf_map_lookup_elem(&newborns, &key);
	union scratch *scratch;

	if (newborn && !newborn->entered) {
		newborn->entered = 1;
		newborn->outside = mount_namespace(parent);
		scratch = fill_slot(FORK_SLOT, CTRWATCH_ATTACH, cgrp, child);
		if (scratch)
			send(scratch);
	}
	if (!is_init(child))
		return 0;

	struct cgroup *begun = told_of(set, CTRWATCH_INIT, 0);
	if (!begun)
		return 0;
	scratch = fill_slot(FORK_INIT_SLOT, CTRWATCH_INIT, begun, child);
	if (scratch)
		send(scratch);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct cgroup *started = told_of(task->cgroups, CTRWATCH_EXEC, mount_namespace(task));

	if (!started)
		return 0;

	union scratch *scratch = fill(CTRWATCH_EXEC, started, task);
	if (!scratch)
		return 0;
	add_path(scratch, bprm->filename);
	send(scratch);
	return 0;
}
