/*
 * Another maker's plugin, run for the agent on the host, where its file, its network namespace and its other needs are.
 *
 * The order is texts, each with its NUL: the file's name; the name it is called by (its argv[0]); `NAME=value` to put into its
 * environment in place of ours; an empty text; then what it finds on stdin, to the end. The result is u32 wait status | what
 * it wrote to stdout. ENOENT: no directory of CNI_PATH holds such a file. It ends with us, so that nothing goes on for a
 * runtime that has given up. Written and read by src/cni/others.ts.
 */
#ifndef TWILL_EXEC_H
#define TWILL_EXEC_H

#include "text.h"

enum { ENV_MAX = 1024, PLUGIN_PATH_MAX = 4096 };

/* True for a file that can be read, and is no directory. */
static int is_file(const char *path)
{
	char byte;
	int fd = (int)sys_open(path, O_RDONLY, 0);
	if (fd < 0)
		return 0;
	long n = sys_read(fd, &byte, 1);
	sys_close(fd);
	return n >= 0;
}

/* Puts the first file called `name` in the directories of `paths` (colons between) into `found`. */
static int find_plugin(const char *paths, const char *name, struct text *found)
{
	for (const char *c = name; *c; c++)
		if (*c == '/')
			return 0;
	while (*name && *paths) {
		found->length = 0;
		found->cut = 0;
		for (; *paths && *paths != ':'; paths++)
			add(found, (char[]){ *paths, 0 });
		paths += *paths == ':';
		add(found, "/"), add(found, name);
		if (!found->cut && is_file(found->at))
			return 1;
	}
	return 0;
}

/* True if `entry` sets the variable that one of the texts at `over` sets. */
static int is_overridden(const char *entry, const char *over)
{
	for (; *over; over += length_of(over) + 1) {
		size_t i = 0;
		while (over[i] && over[i] != '=' && over[i] == entry[i])
			i++;
		if (over[i] == '=' && entry[i] == '=')
			return 1;
	}
	return 0;
}

static __attribute__((noreturn)) void become(const char *path, char *name, char **env, char *over, int from, int to)
{
	static char *merged[ENV_MAX];
	size_t n = 0;
	for (; *env && n < ENV_MAX - 1; env++)
		if (!is_overridden(*env, over))
			merged[n++] = *env;
	for (; *over && n < ENV_MAX - 1; over += length_of(over) + 1)
		merged[n++] = over;
	merged[n] = NULL;
	if (sys_end_with_parent() >= 0 && sys_dup(from, 0) >= 0 && sys_dup(to, 1) >= 0)
		sys_execve(path, (char *[]){ name, NULL }, merged);
	sys_exit(127);
}

/* A file with `length` bytes: nobody has to write while the plugin may be writing too, or be gone already. */
static int stdin_of(const char *bytes, size_t length)
{
	int fd = (int)sys_memfd("stdin");
	if (fd >= 0 && (write_all(fd, bytes, length) < 0 || sys_rewind(fd) < 0)) {
		sys_close(fd);
		return -EPROTO;
	}
	return fd;
}

/* Carries out the order (which must have a NUL behind it); the result goes to `answer` at `*at`. */
static long run_plugin(char *order, size_t length, char **env, char *answer, size_t *at, size_t size)
{
	char buffer[PLUGIN_PATH_MAX], *end = order + length, *name = order + length_of(order) + 1, *over, *input;
	struct text path = { buffer, 0, sizeof buffer, 0 };
	const char *paths = "", *value;
	int ends[2], status = 0;
	if (name >= end || size - *at < 4)
		return -EPROTO;
	for (input = over = name + length_of(name) + 1; input < end && *input;)
		input += length_of(input) + 1;
	if (++input > end)
		return -EPROTO;
	for (char **e = env; *e; e++)
		if ((value = after(*e, "CNI_PATH=")))
			paths = value;
	if (!find_plugin(paths, order, &path))
		return -ENOENT;
	int from = stdin_of(input, (size_t)(end - input));
	if (from < 0)
		return from;
	long child = sys_pipe(ends);
	if (child < 0) {
		sys_close(from);
		return child;
	}
	child = sys_fork();
	if (child == 0)
		become(path.at, name, env, over, from, ends[1]);
	sys_close(from);
	sys_close(ends[1]);
	long n = child < 0 ? child : read_all(ends[0], answer + *at + 4, size - *at - 4);
	sys_close(ends[0]);
	while (child > 0 && sys_wait((int)child, &status) == -EINTR)
		;
	if (n < 0)
		return n;
	put32(answer + *at, (uint32_t)status);
	*at += 4 + (size_t)n;
	return 0;
}

#endif
