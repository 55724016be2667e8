// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The floor: the least that a program can do with the same BPF object.
 *
 * It loads and attaches the object, polls the ring and prints the path of each
 * mkdir, with -t the kernel's time of it before.  It knows no container, asks
 * nobody and keeps nothing.  bench/floor.py compiles it.
 *
 *     floor [-t] OBJECT
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "event.h"

static volatile sig_atomic_t ended;
static bool with_time;

static void end(int number)
{
	(void)number;
	ended = 1;
}

static int print_path(void *context, void *data, size_t size)
{
	const struct ctrwatch_record *record = data;

	(void)context;
	if (size < sizeof(*record) || record->kind != CTRWATCH_MKDIR)
		return 0;
	if (with_time)
		printf("%llu ", (unsigned long long)record->boot_ns);
	fwrite(record->data, 1, record->path_len, stdout);
	putchar_unlocked('\n');
	return 0;
}

static int fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int count, char **words)
{
	struct sigaction action = {.sa_handler = end};
	struct bpf_program *program;
	struct ring_buffer *ring;
	struct bpf_object *object;
	struct bpf_map *map;
	size_t size;

	with_time = count == 3 && !strcmp(words[1], "-t");
	if (count != 2 + with_time) {
		fprintf(stderr, "usage: floor [-t] OBJECT\n");
		return 2;
	}
	object = bpf_object__open_file(words[count - 1], NULL);
	if (!object)
		return fail("open the object");
	if (bpf_object__load(object))
		return fail("load the programs");
	bpf_object__for_each_program(program, object)
		if (!bpf_program__attach(program))
			return fail(bpf_program__name(program));
	map = bpf_object__find_map_by_name(object, "ring");
	ring = ring_buffer__new(bpf_map__fd(map), print_path, NULL, NULL);
	if (!ring)
		return fail("open the ring");

	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	fprintf(stderr, "floor: attached\n");
	while (!ended) {
		int code = ring_buffer__poll(ring, -1);

		if (code < 0 && code != -EINTR)
			return fail("poll");
		fflush(stdout);
	}
	map = bpf_object__find_map_by_name(object, ".bss");
	fprintf(stderr, "floor: %llu lost\n", *(unsigned long long *)bpf_map__initial_value(map, &size));
	return 0;
}
