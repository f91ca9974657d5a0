/*
 * The few Linux system calls the shim needs, without a C library: the same source builds for both architectures with
 * nothing but a compiler, and exec costs no dynamic loading and no library start-up.
 *
 * Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (arm64) of the kernel.
 * A call returns its result, or -errno.
 */
#ifndef TWILL_SYS_H
#define TWILL_SYS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
enum { NR_read = 0, NR_write = 1, NR_close = 3, NR_ioctl = 16, NR_getpid = 39, NR_socket = 41, NR_connect = 42, NR_sendto = 44, NR_recvfrom = 45, NR_bind = 49, NR_setsockopt = 54, NR_fsync = 74,
       NR_exit_group = 231, NR_openat = 257, NR_mkdirat = 258, NR_unlinkat = 263, NR_renameat = 264, NR_readlinkat = 267,
       NR_setns = 308, NR_lseek = 8, NR_clone = 56, NR_execve = 59, NR_wait4 = 61, NR_prctl = 157, NR_dup3 = 292, NR_pipe2 = 293,
       NR_memfd_create = 319 };
enum { O_DIRECTORY = 0200000 };

static long sys6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

/* The kernel enters with argc at the stack pointer, which is 16-byte aligned. */
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tcall start\n\thlt\n");

#elif defined(__aarch64__)
enum { NR_ioctl = 29, NR_mkdirat = 34, NR_unlinkat = 35, NR_renameat = 38, NR_openat = 56, NR_close = 57, NR_read = 63, NR_write = 64, NR_readlinkat = 78, NR_fsync = 82,
       NR_exit_group = 94, NR_getpid = 172, NR_socket = 198, NR_bind = 200, NR_connect = 203, NR_sendto = 206,
       NR_recvfrom = 207, NR_setsockopt = 208, NR_setns = 268, NR_dup3 = 24, NR_pipe2 = 59, NR_lseek = 62, NR_prctl = 167,
       NR_clone = 220, NR_execve = 221, NR_wait4 = 260, NR_memfd_create = 279 };
enum { O_DIRECTORY = 040000 };

static long sys6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}

__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x30, xzr\n\tmov x0, sp\n\tb start\n");

#else
#error "the shim is built for amd64 and arm64"
#endif

enum { AT_FDCWD = -100, AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10, AF_NETLINK = 16, SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_RAW = 3, SOCK_CLOEXEC = 02000000, MSG_DONTWAIT = 0x40, MSG_NOSIGNAL = 0x4000 };
enum { CLONE_NEWNET = 0x40000000, SIOCGIFFLAGS = 0x8913, SIOCSIFFLAGS = 0x8914, SIOCGIFINDEX = 0x8933, IFF_UP = 1 };
enum { SOL_NETLINK = 270, NETLINK_CAP_ACK = 10, NETLINK_EXT_ACK = 11, NLMSG_ERROR = 2 };
enum { SIGKILL = 9, SIGCHLD = 17, PR_SET_PDEATHSIG = 1, MFD_CLOEXEC = 1 };
enum { O_RDONLY = 0, O_WRONLY = 1, O_CREAT = 0100, O_TRUNC = 01000, O_CLOEXEC = 02000000 };
enum { ENOENT = 2, EINTR = 4, EAGAIN = 11, EEXIST = 17, EXDEV = 18, EPROTO = 71, ECONNREFUSED = 111 };

/* include/uapi/linux/if.h; the kernel copies all 40 bytes. */
struct ifreq {
	char name[16];
	union {
		short flags;
		int index;
		char all[24];
	};
};

struct sockaddr_nl {
	uint16_t family, pad;
	uint32_t port, groups;
};

struct sockaddr_un {
	uint16_t family;
	char path[108];
};

static long sys_read(int fd, void *to, size_t length) { return sys6(NR_read, fd, (long)to, (long)length, 0, 0, 0); }
static long sys_write(int fd, const void *from, size_t length) { return sys6(NR_write, fd, (long)from, (long)length, 0, 0, 0); }
static long sys_close(int fd) { return sys6(NR_close, fd, 0, 0, 0, 0, 0); }
static long sys_fsync(int fd) { return sys6(NR_fsync, fd, 0, 0, 0, 0, 0); }
static long sys_getpid(void) { return sys6(NR_getpid, 0, 0, 0, 0, 0, 0); }
static long sys_open(const char *path, int flags, int mode) { return sys6(NR_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, mode, 0, 0); }
static long sys_mkdir(const char *path, int mode) { return sys6(NR_mkdirat, AT_FDCWD, (long)path, mode, 0, 0, 0); }
static long sys_unlink(const char *path) { return sys6(NR_unlinkat, AT_FDCWD, (long)path, 0, 0, 0, 0); }
static long sys_rename(const char *from, const char *to) { return sys6(NR_renameat, AT_FDCWD, (long)from, AT_FDCWD, (long)to, 0, 0); }
static long sys_socket(int family, int type) { return sys6(NR_socket, family, type | SOCK_CLOEXEC, 0, 0, 0, 0); }
static long sys_connect(int fd, const struct sockaddr_un *to) { return sys6(NR_connect, fd, (long)to, sizeof *to, 0, 0, 0); }
static long sys_bind(int fd, const void *address, size_t length) { return sys6(NR_bind, fd, (long)address, (long)length, 0, 0, 0); }
static long sys_setsockopt(int fd, int level, int name, const int *on) { return sys6(NR_setsockopt, fd, level, name, (long)on, sizeof *on, 0); }
static long sys_recv(int fd, void *to, size_t length) { return sys6(NR_recvfrom, fd, (long)to, (long)length, MSG_DONTWAIT, 0, 0); }
static long sys_readlink(const char *path, char *to, size_t length) { return sys6(NR_readlinkat, AT_FDCWD, (long)path, (long)to, (long)length, 0, 0); }
static long sys_setns(int fd, int type) { return sys6(NR_setns, fd, type, 0, 0, 0, 0); }
static long sys_ioctl(int fd, int request, struct ifreq *about) { return sys6(NR_ioctl, fd, request, (long)about, 0, 0, 0); }
static long sys_send(int fd, const void *from, size_t length) { return sys6(NR_sendto, fd, (long)from, (long)length, MSG_NOSIGNAL, 0, 0); }

static long sys_rewind(int fd) { return sys6(NR_lseek, fd, 0, 0, 0, 0, 0); }
static long sys_dup(int fd, int to) { return sys6(NR_dup3, fd, to, 0, 0, 0, 0); }
static long sys_pipe(int ends[2]) { return sys6(NR_pipe2, (long)ends, O_CLOEXEC, 0, 0, 0, 0); }
static long sys_memfd(const char *name) { return sys6(NR_memfd_create, (long)name, MFD_CLOEXEC, 0, 0, 0, 0); }
static long sys_fork(void) { return sys6(NR_clone, SIGCHLD, 0, 0, 0, 0, 0); }
static long sys_end_with_parent(void) { return sys6(NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0); }
static long sys_execve(const char *path, char **argv, char **env) { return sys6(NR_execve, (long)path, (long)argv, (long)env, 0, 0, 0); }
static long sys_wait(int pid, int *status) { return sys6(NR_wait4, pid, (long)status, 0, 0, 0, 0); }

static __attribute__((noreturn)) void sys_exit(int status)
{
	for (;;)
		sys6(NR_exit_group, status, 0, 0, 0, 0, 0);
}

/* The compiler may call these two by itself. */
__attribute__((used)) void *memcpy(void *to, const void *from, size_t length)
{
	char *t = to;
	const char *f = from;
	while (length--)
		*t++ = *f++;
	return to;
}

__attribute__((used)) void *memset(void *to, int byte, size_t length)
{
	char *t = to;
	while (length--)
		*t++ = (char)byte;
	return to;
}

#endif
