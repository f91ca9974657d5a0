/*
 * An errand: what the agent asks the shim to do while the runtime waits for it anyway: in the kernel, or by another plugin. The agent wrote every
 * byte of it; the shim adds only what it alone can know (a descriptor, a device's index) at the places it is told. So the
 * kernel's work blocks nobody but the caller, and an agent in a container needs no way into pods' namespaces.
 *
 * The body of the frame is steps: u8 kind | u8 in pod | u16 patches | u32 length | patches × u32 offset | bytes; integers in
 * network order. The answer has for each step done: u32 errno | u32 length | bytes, and ends after the first that failed.
 * Both as bytes: src/wire/errand.ts; written by src/kernel/errand.ts and src/cni/others.ts.
 */
#ifndef TWILL_ERRAND_H
#define TWILL_ERRAND_H

#include "exec.h"
#include "text.h"

enum step_kind {
	STEP_HOME = 1, /* a text: go on only if we are in this network namespace ("net:[4026531840]") */
	STEP_NETNS,    /* a path: opens the pod's namespace; its descriptor is the value for patches */
	STEP_NETLINK,  /* u32 port id | messages: sent at once, from the namespace we were in when its first such step came;
	                * `in pod` chooses the socket. The kernel's answers are the step's bytes */
	STEP_ENTER,    /* nothing: enters the pod's namespace */
	STEP_INDEX,    /* a device's name: its index is the value for patches */
	STEP_SYSCTL,   /* a path NUL a value: written; a failure does not end the errand */
	STEP_EXEC,     /* an order (exec.h): another plugin is run; how it ended and what it wrote to stdout are the step's bytes */
};

struct errand {
	char **env;     /* ours */
	int home;       /* where we came from; -1 until left */
	int netns;      /* -1 until opened */
	int netlink[2]; /* at home, in the pod; -1 until needed */
	uint32_t value;
	char *answer;
	size_t length, size;
};

static long step_home(const char *want)
{
	char have[64];
	long n = sys_readlink("/proc/self/ns/net", have, sizeof have - 1);
	if (n < 0)
		return n;
	have[n] = 0;
	return same(have, want) ? 0 : -EXDEV;
}

static long open_netlink(uint32_t port)
{
	struct sockaddr_nl address = { .family = AF_NETLINK, .port = port };
	int on = 1;
	long fd = sys_socket(AF_NETLINK, SOCK_RAW), error;
	if (fd < 0)
		return fd;
	sys_setsockopt((int)fd, SOL_NETLINK, NETLINK_CAP_ACK, &on);
	sys_setsockopt((int)fd, SOL_NETLINK, NETLINK_EXT_ACK, &on);
	error = sys_bind((int)fd, &address, sizeof address);
	if (error < 0)
		sys_close((int)fd);
	return error < 0 ? error : fd;
}

/* The first error among the netlink messages in `from`, or 0. */
static long first_refusal(const char *from, size_t length)
{
	struct { uint32_t length; uint16_t type, flags; uint32_t seq, port; int32_t error; } head;
	for (size_t at = 0; length - at >= sizeof head; at += (head.length + 3) & ~3u) {
		memcpy(&head, from + at, sizeof head);
		if (head.length < 16 || head.length > length - at)
			return -EPROTO;
		if (head.type == NLMSG_ERROR && head.error != 0)
			return head.error;
	}
	return 0;
}

/* The kernel has done everything when the send returns: what it has to say is waiting then. */
static long step_netlink(struct errand *e, int *netlink, const char *bytes, size_t length)
{
	size_t from = e->length;
	if (length < 4)
		return -EPROTO;
	if (*netlink < 0) {
		long fd = open_netlink(get32(bytes));
		if (fd < 0)
			return fd;
		*netlink = (int)fd;
	}
	long n = sys_send(*netlink, bytes + 4, length - 4);
	if (n < 0)
		return n;
	while ((n = sys_recv(*netlink, e->answer + e->length, e->size - e->length)) > 0)
		e->length += (size_t)n;
	return n == -EAGAIN ? first_refusal(e->answer + from, e->length - from) : n;
}

static long step_index(struct errand *e, const char *name, size_t length)
{
	struct ifreq request = { .name = "" };
	if (length >= sizeof request.name)
		return -EPROTO;
	memcpy(request.name, name, length);
	int fd = (int)sys_socket(AF_INET, SOCK_DGRAM);
	if (fd < 0)
		return fd;
	long error = sys_ioctl(fd, SIOCGIFINDEX, &request);
	sys_close(fd);
	e->value = (uint32_t)request.index;
	return error;
}

static long step_sysctl(const char *path, size_t length)
{
	const char *value = path + length_of(path) + 1;
	int fd = (int)sys_open(path, O_WRONLY, 0);
	if (fd < 0)
		return fd;
	long n = value < path + length ? sys_write(fd, value, (size_t)(path + length - value)) : -EPROTO;
	sys_close(fd);
	return n < 0 ? n : 0;
}

static long step_enter(struct errand *e)
{
	if (e->home < 0)
		e->home = (int)sys_open("/proc/self/ns/net", O_RDONLY, 0);
	return e->home < 0 ? e->home : sys_setns(e->netns, CLONE_NEWNET);
}

static long do_step(struct errand *e, enum step_kind kind, int in_pod, char *bytes, size_t length)
{
	switch (kind) {
	case STEP_HOME:
		return step_home(bytes);
	case STEP_NETNS:
		e->netns = (int)sys_open(bytes, O_RDONLY, 0);
		e->value = (uint32_t)e->netns;
		return e->netns < 0 ? e->netns : 0;
	case STEP_NETLINK:
		return step_netlink(e, &e->netlink[in_pod], bytes, length);
	case STEP_ENTER:
		return step_enter(e);
	case STEP_INDEX:
		return step_index(e, bytes, length);
	case STEP_SYSCTL:
		return step_sysctl(bytes, length);
	case STEP_EXEC:
		return run_plugin(bytes, length, e->env, e->answer, &e->length, e->size);
	}
	return -EPROTO;
}

/* Does the steps in `program` (which must have a byte to spare at its end) and writes what came of them to `answer`; its length.
 * We are where we were when it ends. */
static size_t run_errand(char *program, size_t length, char **env, char *answer, size_t size)
{
	struct errand e = { .env = env, .home = -1, .netns = -1, .netlink = { -1, -1 }, .answer = answer, .size = size };
	for (size_t at = 0; length - at >= 8;) {
		enum step_kind kind = (enum step_kind)program[at];
		size_t patches = (size_t)(unsigned char)program[at + 2] << 8 | (unsigned char)program[at + 3];
		size_t bytes = get32(program + at + 4), head = 8 + 4 * patches;
		size_t result = e.length;
		long error = -EPROTO;
		if (size - e.length < 8)
			break;
		e.length += 8;
		if (head <= length - at && bytes <= length - at - head) {
			char *from = program + at + head, after_it = from[bytes];
			for (size_t i = 0; i < patches; i++) {
				size_t offset = get32(program + at + 8 + 4 * i);
				if (bytes >= 4 && offset <= bytes - 4)
					memcpy(from + offset, &e.value, 4);
			}
			from[bytes] = 0; /* texts end where the step does */
			error = do_step(&e, kind, program[at + 1] != 0, from, bytes);
			from[bytes] = after_it;
		}
		put32(answer + result, (uint32_t)(error < 0 ? -error : 0));
		put32(answer + result + 4, (uint32_t)(e.length - result - 8));
		if (error < 0 && kind != STEP_SYSCTL)
			break;
		at += head + bytes;
	}
	for (int i = 0; i < 2; i++)
		if (e.netlink[i] >= 0)
			sys_close(e.netlink[i]);
	if (e.netns >= 0)
		sys_close(e.netns);
	if (e.home >= 0) {
		sys_setns(e.home, CLONE_NEWNET);
		sys_close(e.home);
	}
	return e.length;
}

#endif
