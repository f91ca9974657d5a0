/*
 * Runs a program and kills it (SIGKILL) right after its n-th write, so that a test can cut it at every place there is without
 * the program knowing of it. A write is a system call that changes a file or the kernel's network, or tells another process
 * something: each is one line of the log, also of those after which nothing is cut.
 *
 *     cut LOG N [wait] PROGRAM ARGUMENT...     N: 0 cuts never. wait: counts only after SIGUSR1 came to this process
 *
 * Exit status: the program's; 137 if it was killed. Sources: ptrace(2), linux/ptrace.h, linux/netlink.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
/* After sys/ptrace.h, whose names it shares. */
#include <linux/ptrace.h>

enum { THREADS = 64, TEXT = 512 };

/* What a thread has entered and not left yet; no text: nothing that counts. */
static struct thread {
	pid_t tid;
	char text[TEXT];
} threads[THREADS];

static pid_t program;
static volatile sig_atomic_t armed;

static void arm(int signal)
{
	(void)signal;
	armed = 1;
}

static struct thread *thread_of(pid_t tid)
{
	for (int i = 0; i < THREADS; i++)
		if (threads[i].tid == tid)
			return &threads[i];
	for (int i = 0; i < THREADS; i++)
		if (threads[i].tid == 0) {
			threads[i].tid = tid;
			return &threads[i];
		}
	fprintf(stderr, "cut: more than %d threads\n", THREADS);
	exit(2);
}

static size_t peek(uint64_t from, void *to, size_t length)
{
	struct iovec local = { to, length }, remote = { (void *)(uintptr_t)from, length };
	ssize_t n = process_vm_readv(program, &local, 1, &remote, 1, 0);
	return n < 0 ? 0 : (size_t)n;
}

static void peek_path(uint64_t from, char *to)
{
	size_t page = 4096 - from % 4096; /* what follows it may not be mapped */
	size_t n = peek(from, to, page < 255 ? page : 255);
	if (n < 255)
		n += peek(from + n, to + n, 255 - n);
	to[n] = 0;
}

/* A request that only reads: a dump, or one of rtnetlink's RTM_GET*. */
static int only_reads(int protocol, uint64_t message)
{
	struct nlmsghdr head = { 0 };
	if (peek(message, &head, sizeof head) != sizeof head)
		return 0;
	return (head.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP || (protocol == NETLINK_ROUTE && head.nlmsg_type % 4 == RTM_GETLINK % 4);
}

static int option_of(int fd, int option)
{
	int value = -1;
	socklen_t length = sizeof value;
	getsockopt(fd, SOL_SOCKET, option, &value, &length);
	return value;
}

/* Sends to a socket: netlink and unix only. `bytes` are the first of what is sent. */
static void describe_send(int fd, uint64_t bytes, char *text)
{
	int pidfd = (int)syscall(SYS_pidfd_open, program, 0), copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	int domain = option_of(copy, SO_DOMAIN), protocol = option_of(copy, SO_PROTOCOL);
	close(copy);
	close(pidfd);
	if (domain == AF_UNIX)
		snprintf(text, TEXT, "send unix");
	else if (domain == AF_NETLINK && !only_reads(protocol, bytes))
		snprintf(text, TEXT, "send %s", protocol == NETLINK_ROUTE ? "rtnetlink" : protocol == NETLINK_NETFILTER ? "netfilter" : "netlink");
}

static void describe_write(int fd, uint64_t bytes, char *text)
{
	char link[64], path[256];
	snprintf(link, sizeof link, "/proc/%d/fd/%d", program, fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	path[n < 0 ? 0 : n] = 0;
	if (path[0] == '/' && strncmp(path, "/dev/", 5) != 0)
		snprintf(text, TEXT, "write %s", path);
	else if (strncmp(path, "socket:", 7) == 0)
		describe_send(fd, bytes, text);
}

static void describe_path(const char *what, uint64_t path, char *text)
{
	char name[256];
	peek_path(path, name);
	snprintf(text, TEXT, "%s %s", what, name);
}

/* Where the first bytes of a message are. */
static uint64_t bytes_of(uint64_t message)
{
	struct msghdr head = { 0 };
	struct iovec first = { 0 };
	peek(message, &head, sizeof head);
	peek((uintptr_t)head.msg_iov, &first, sizeof first);
	return (uintptr_t)first.iov_base;
}

static void describe(const struct ptrace_syscall_info *info, char *text)
{
	const uint64_t *arg = (const uint64_t *)info->entry.args;
	struct iovec first = { 0 };
	text[0] = 0;
	switch (info->entry.nr) {
	case SYS_openat:
		if (arg[2] & (O_CREAT | O_TRUNC))
			describe_path("open", arg[1], text);
		break;
#ifdef SYS_open
	case SYS_open:
		if (arg[1] & (O_CREAT | O_TRUNC))
			describe_path("open", arg[0], text);
		break;
	case SYS_mkdir:
		describe_path("mkdir", arg[0], text);
		break;
	case SYS_rename:
		describe_path("rename", arg[0], text);
		break;
	case SYS_unlink:
	case SYS_rmdir:
		describe_path("remove", arg[0], text);
		break;
#endif
	case SYS_mkdirat:
		describe_path("mkdir", arg[1], text);
		break;
#ifdef SYS_renameat
	case SYS_renameat:
#endif
	case SYS_renameat2:
		describe_path("rename", arg[1], text);
		break;
	case SYS_unlinkat:
		describe_path("remove", arg[1], text);
		break;
	case SYS_ftruncate:
	case SYS_write:
	case SYS_pwrite64:
		describe_write((int)arg[0], arg[1], text);
		break;
	case SYS_writev:
		peek(arg[1], &first, sizeof first);
		describe_write((int)arg[0], (uintptr_t)first.iov_base, text);
		break;
	case SYS_sendto:
		describe_send((int)arg[0], arg[1], text);
		break;
	case SYS_sendmsg:
		describe_send((int)arg[0], bytes_of(arg[1]), text);
		break;
	}
}

int main(int argc, char **argv)
{
	int waits = argc > 3 && strcmp(argv[3], "wait") == 0, status, count = 0;
	if (argc < 4 + waits) {
		fprintf(stderr, "usage: cut LOG N [wait] PROGRAM ARGUMENT...\n");
		return 2;
	}
	FILE *log = fopen(argv[1], "we");
	int last = atoi(argv[2]);
	if (!log)
		return 2;
	armed = !waits;
	signal(SIGUSR1, arm);
	program = fork();
	if (program == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execvp(argv[3 + waits], argv + 3 + waits);
		perror(argv[3 + waits]);
		_exit(127);
	}
	for (int first = 1;;) {
		pid_t tid = waitpid(-1, &status, __WALL);
		if (tid < 0 && errno == EINTR)
			continue;
		if (tid < 0)
			return 2;
		if (!WIFSTOPPED(status)) {
			if (tid != program) {
				*thread_of(tid) = (struct thread){ 0 };
				continue;
			}
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		int deliver = WSTOPSIG(status);
		if (first) {
			ptrace(PTRACE_SETOPTIONS, tid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
			first = 0;
		}
		if (deliver == (SIGTRAP | 0x80)) {
			struct ptrace_syscall_info info = { 0 };
			struct thread *thread = thread_of(tid);
			deliver = 0;
			ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
			if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
				describe(&info, thread->text);
			} else if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
				if (armed && thread->text[0] && !info.exit.is_error) {
					fprintf(log, "%d %s\n", ++count, thread->text);
					fflush(log);
					if (count == last)
						kill(program, SIGKILL);
				}
				thread->text[0] = 0;
			}
		} else if (deliver == SIGTRAP || deliver == SIGSTOP) {
			deliver = 0; /* an exec, a new thread */
		}
		ptrace(PTRACE_SYSCALL, tid, 0, deliver);
	}
}
