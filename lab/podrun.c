/*
 * podrun: makes a pod's sandbox and runs its containers. The lab's stand-in for containerd's shim and runc, ~1 ms a call.
 *
 *   podrun pause [TEXT]                    prints TEXT, then waits for SIGTERM. Pid 1 of anything: it reaps.
 *   podrun sandbox [--netns FILE] [--hostname NAME] [--cgroup DIR] -- LABEL
 *                                          a pause process with ipc (and net, uts) namespaces of its own; the net namespace
 *                                          is bound to FILE. Prints its pid.
 *   podrun run OPTION... -- COMMAND...     starts a container and prints its pid. What stays is a shim that writes the log
 *                                          (CRI format), waits, and leaves the exit code in --exit FILE; it needs no kubelet.
 *   podrun exec OPTION... -- COMMAND...    runs COMMAND in the namespaces of --pid PID and exits with its code.
 *                                          fd 3: one line if COMMAND could not be started; fd 4 (--tty): "ROWS COLUMNS\n" a resize.
 *
 * The environment of podrun is the environment of COMMAND. A container's root is an overlay over the node's root mount (over
 * nothing that is mounted on it), upper layer in a tmpfs that dies with the container: what a pod may see of its node
 * it must mount, as in a real cluster. Needs Linux 5.12 (open_tree, move_mount, mount_setattr, pidfd).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#define TREE_CLONE 1
#define TREE_RECURSIVE 0x8000   /* AT_RECURSIVE */
#define FROM_EMPTY_PATH 4       /* MOVE_MOUNT_F_EMPTY_PATH */
#define MOUNT_RDONLY 1          /* MOUNT_ATTR_RDONLY */
struct mount_change { uint64_t set, clear, propagation, userns; };
/* linux/capability.h and linux/mount.h are not there for musl; these are their few words. */
struct cap_header { uint32_t version; int pid; };
struct cap_data { uint32_t effective, permitted, inheritable; };
#define CAPABILITY_VERSION_3 0x20080522

enum { MAX_MOUNTS = 256, MAX_NS = 8, LINE = 16384 };
struct bind { const char *from, *to, *mode; int tree; };
struct options {
  const char *netns, *hostname, *cgroup, *log, *exit, *pidfile, *root, *workdir;
  const char *ns[MAX_NS];
  int ns_count, host_pid, privileged, tty, keep_stdin, read_only, pid;
  uint64_t caps;
  unsigned uid, gid;
  struct bind binds[MAX_MOUNTS];
  int bind_count;
  char **argv;
};

static int complaint_fd = 2;
/* One line to whoever waits for us, and the end. */
static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...) {
  char text[2048];
  int saved = errno;
  va_list list;
  va_start(list, format);
  int n = vsnprintf(text, sizeof text - 200, format, list);
  va_end(list);
  if (n > (int)sizeof text - 200) n = sizeof text - 200;
  if (saved) n += snprintf(text + n, 200, ": %s", strerror(saved));
  if (write(complaint_fd, text, n) < 0) _exit(126);
  _exit(127);
}

static void write_file(const char *path, const char *text) {
  char temporary[4096];
  snprintf(temporary, sizeof temporary, "%s.new", path);
  int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) die("open %s", temporary);
  if (write(fd, text, strlen(text)) < 0) die("write %s", temporary);
  close(fd);
  if (rename(temporary, path)) die("rename %s", path);
}

static void join_cgroup(const char *dir) {
  char path[4096];
  if (!dir) return;
  snprintf(path, sizeof path, "%s/cgroup.procs", dir);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0", 1) < 0) die("join the cgroup %s", dir);
  close(fd);
}

static void silence(void) {
  int fd = open("/dev/null", O_RDWR);
  if (fd < 0) die("open /dev/null");
  for (int i = 0; i < 3; i++) dup2(fd, i);
  if (fd > 2) close(fd);
}

/* ---- pause ---- */

static void on_end(int signal_number) { (void)signal_number; _exit(0); }

static void __attribute__((noreturn)) pause_main(const char *text) {
  signal(SIGTERM, on_end);
  signal(SIGINT, on_end);
  signal(SIGCHLD, SIG_IGN);
  if (text) { printf("%s\n", text); fflush(stdout); }
  for (;;) pause();
}

/* ---- sandbox ---- */

static int sandbox_main(struct options *o) {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC)) die("pipe");
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    setsid();
    join_cgroup(o->cgroup);
    if (unshare(CLONE_NEWIPC | (o->netns ? CLONE_NEWNET : 0) | (o->hostname ? CLONE_NEWUTS : 0))) die("unshare");
    if (o->hostname && sethostname(o->hostname, strlen(o->hostname))) die("sethostname %s", o->hostname);
    if (write(ready[1], "k", 1) != 1) _exit(1);
    silence();
    execl("/proc/self/exe", "pause", "pause", o->argv[0] ? o->argv[0] : "", (char *)0);
    _exit(1);
  }
  close(ready[1]);
  char byte;
  if (read(ready[0], &byte, 1) != 1) exit(127); /* the child has said why */
  if (o->netns) {
    char from[64];
    snprintf(from, sizeof from, "/proc/%d/ns/net", pid);
    int fd = open(o->netns, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (fd < 0 || mount(from, o->netns, NULL, MS_BIND, NULL)) { int e = errno; kill(pid, SIGKILL); errno = e; die("bind %s", o->netns); }
    close(fd);
  }
  printf("%d\n", pid);
  return 0;
}

/* ---- the root of a container ---- */

static void make_parents(char *path) {
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    if (mkdir(path, 0755) && errno != EEXIST) die("mkdir %s", path);
    *slash = '/';
  }
}

static void put_mount(struct bind *b) {
  char to[4096];
  struct stat now, source;
  if (fstat(b->tree, &source)) die("stat %s", b->from);
  snprintf(to, sizeof to, "%s", b->to);
  if (stat(to, &now)) {
    make_parents(to);
    if (S_ISDIR(source.st_mode) ? mkdir(to, 0755) : mknod(to, S_IFREG | 0644, 0)) die("make the mount point %s", to);
  }
  if (syscall(SYS_move_mount, b->tree, "", AT_FDCWD, to, FROM_EMPTY_PATH)) die("mount %s on %s", b->from, b->to);
  close(b->tree);
}

static void must_mount(const char *from, const char *to, const char *type, unsigned long flags, const char *data) {
  if (mount(from, to, type, flags, data)) die("mount %s on %s", type ? type : from, to);
}

static void node_of(const char *name, int major_number, int minor_number) {
  char path[64];
  snprintf(path, sizeof path, "dev/%s", name);
  if (mknod(path, S_IFCHR | 0666, makedev(major_number, minor_number)) || chmod(path, 0666)) die("mknod %s", path);
}

static void make_dev(void) {
  must_mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=64k");
  node_of("null", 1, 3); node_of("zero", 1, 5); node_of("full", 1, 7);
  node_of("random", 1, 8); node_of("urandom", 1, 9); node_of("tty", 5, 0);
  if (mkdir("dev/pts", 0755) || mkdir("dev/shm", 01777)) die("mkdir in /dev");
  must_mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
  must_mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
  if (symlink("pts/ptmx", "dev/ptmx") || symlink("/proc/self/fd", "dev/fd") || symlink("/proc/self/fd/0", "dev/stdin") ||
      symlink("/proc/self/fd/1", "dev/stdout") || symlink("/proc/self/fd/2", "dev/stderr")) die("symlink in /dev");
}

/* Copies of what is to be mounted are taken first, while they still are peers of the node's mounts: that is what makes
 * Bidirectional reach the node. Then the rest of this namespace stops sending mounts to the node. */
static void make_root(struct options *o) {
  char upper[4096], work[4096], root[4096], data[8448];
  if (unshare(CLONE_NEWNS)) die("unshare a mount namespace");
  for (int i = 0; i < o->bind_count; i++) {
    struct bind *b = &o->binds[i];
    b->tree = syscall(SYS_open_tree, AT_FDCWD, b->from, TREE_CLONE | TREE_RECURSIVE | O_CLOEXEC);
    if (b->tree < 0) die("take %s", b->from);
    struct mount_change spread = { .propagation = strchr(b->mode, 's') ? MS_SLAVE : MS_PRIVATE };
    if (!strchr(b->mode, 'b') && syscall(SYS_mount_setattr, b->tree, "", AT_EMPTY_PATH | TREE_RECURSIVE, &spread, sizeof spread))
      die("set the propagation of %s", b->from);
    struct mount_change lock = { .set = MOUNT_RDONLY };
    if (strchr(b->mode, 'r') && syscall(SYS_mount_setattr, b->tree, "", AT_EMPTY_PATH, &lock, sizeof lock)) die("make %s read-only", b->from);
  }
  int devices = o->privileged ? syscall(SYS_open_tree, AT_FDCWD, "/dev", TREE_CLONE | TREE_RECURSIVE | O_CLOEXEC) : -1;
  int cgroups = syscall(SYS_open_tree, AT_FDCWD, "/sys/fs/cgroup", TREE_CLONE | TREE_RECURSIVE | O_CLOEXEC);
  must_mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL);

  must_mount("tmpfs", o->root, "tmpfs", 0, "mode=755");
  snprintf(upper, sizeof upper, "%s/upper", o->root);
  snprintf(work, sizeof work, "%s/work", o->root);
  snprintf(root, sizeof root, "%s/root", o->root);
  if (mkdir(upper, 0755) || mkdir(work, 0755) || mkdir(root, 0755)) die("mkdir below %s", o->root);
  snprintf(data, sizeof data, "lowerdir=/,upperdir=%s,workdir=%s", upper, work);
  /* Overlays stack two deep: on a machine whose own root is one, the node's is the second, and a pod shares the node's. */
  if (mount("overlay", root, "overlay", 0, data)) must_mount("/", root, NULL, MS_BIND, NULL);
  if (chdir(root)) die("chdir %s", root);

  must_mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  must_mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | (o->privileged ? 0 : MS_RDONLY), NULL);
  struct mount_change calm = { .set = o->privileged ? 0 : MOUNT_RDONLY, .propagation = MS_PRIVATE };
  if (cgroups >= 0 && (syscall(SYS_mount_setattr, cgroups, "", AT_EMPTY_PATH | TREE_RECURSIVE, &calm, sizeof calm) ||
                       syscall(SYS_move_mount, cgroups, "", AT_FDCWD, "sys/fs/cgroup", FROM_EMPTY_PATH))) die("mount cgroups");
  if (devices >= 0) {
    struct mount_change slave = { .propagation = MS_SLAVE };
    if (syscall(SYS_mount_setattr, devices, "", AT_EMPTY_PATH | TREE_RECURSIVE, &slave, sizeof slave) ||
        syscall(SYS_move_mount, devices, "", AT_FDCWD, "dev", FROM_EMPTY_PATH)) die("mount /dev");
  } else {
    make_dev();
    must_mount("proc/sys", "proc/sys", NULL, MS_BIND, NULL);
    must_mount(NULL, "proc/sys", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
    if (!mount("proc/sysrq-trigger", "proc/sysrq-trigger", NULL, MS_BIND, NULL))
      must_mount(NULL, "proc/sysrq-trigger", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
  }
  must_mount("tmpfs", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
  must_mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
  must_mount("tmpfs", "root", "tmpfs", MS_NOSUID | MS_NODEV, "mode=700"); /* the machine's own keys are none of the pod's */
  if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) die("pivot_root");
  for (int i = 0; i < o->bind_count; i++) put_mount(&o->binds[i]);
  if (o->read_only) must_mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
}

/* ---- becoming the command ---- */

static void limit_caps(uint64_t keep) {
  struct cap_header header = { .version = CAPABILITY_VERSION_3 };
  struct cap_data have[2];
  for (int cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
    if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap)) die("drop capability %d", cap);
  if (syscall(SYS_capget, &header, have)) die("capget");
  for (int i = 0; i < 2; i++) {
    have[i].permitted &= (uint32_t)(keep >> 32 * i);
    have[i].effective = have[i].permitted;
    have[i].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, have)) die("capset");
}

static void __attribute__((noreturn)) become(struct options *o) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  for (int i = 1; i < 32; i++) signal(i, SIG_DFL);
  if (o->workdir && chdir(o->workdir)) die("chdir to %s", o->workdir);
  /* Ids before capabilities: setgroups needs one that may be dropped, and leaving uid 0 clears them all. */
  if (setgroups(1, (gid_t[]){ o->gid }) || setgid(o->gid)) die("setgid %u", o->gid);
  if (o->uid == 0) limit_caps(o->caps);
  else if (setuid(o->uid)) die("setuid %u", o->uid);
  execvp(o->argv[0], o->argv);
  if (errno == ENOENT) { errno = 0; die("exec: \"%s\": %s", o->argv[0], strchr(o->argv[0], '/') ? "stat: no such file or directory" : "executable file not found in $PATH"); }
  die("exec: \"%s\"", o->argv[0]);
}

/* ---- run: the shim and its child ---- */

struct stream { int fd; const char *name; char line[LINE]; int used; };

static void stamp(char *out, size_t size) {
  struct timespec now;
  struct tm parts;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &parts);
  size_t n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &parts);
  snprintf(out + n, size - n, ".%09ldZ", now.tv_nsec);
}

/* `2026-11-23T03:07:36.317439956Z stdout F text`; P marks a piece of a line longer than 16 KiB. One write a line: readers see whole ones. */
static void log_line(int log, struct stream *s, int length, char mark) {
  char head[64], out[LINE + 128];
  stamp(head, sizeof head);
  int n = snprintf(out, sizeof out, "%s %s %c ", head, s->name, mark);
  memcpy(out + n, s->line, length);
  n += length;
  out[n++] = '\n';
  if (write(log, out, n) < 0) return; /* a full disk must not stop the container */
}

/* Returns 0 at the end of the stream. */
static int pump(int log, struct stream *s) {
  ssize_t n = read(s->fd, s->line + s->used, LINE - s->used);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) {
    if (s->used) log_line(log, s, s->used, 'F');
    close(s->fd);
    s->fd = -1;
    return 0;
  }
  s->used += n;
  for (char *end; (end = memchr(s->line, '\n', s->used));) {
    int length = end - s->line;
    log_line(log, s, length, 'F');
    s->used -= length + 1;
    memmove(s->line, end + 1, s->used);
  }
  if (s->used == LINE) { log_line(log, s, LINE, 'P'); s->used = 0; }
  return 1;
}

static int run_main(struct options *o) {
  int told[2], out[2], err[2], in[2], started[2];
  if (pipe2(told, O_CLOEXEC)) die("pipe");
  pid_t shim = fork();
  if (shim < 0) die("fork");
  if (shim > 0) {
    char answer[2048];
    ssize_t used = 0, n;
    close(told[1]);
    while ((n = read(told[0], answer + used, sizeof answer - 1 - used)) > 0) used += n;
    answer[used] = 0;
    int fine = !strncmp(answer, "pid ", 4);
    fputs(fine ? answer + 4 : answer, fine ? stdout : stderr);
    return fine ? 0 : 127;
  }
  complaint_fd = told[1];
  setsid();
  silence();
  join_cgroup(o->cgroup);
  int log = open(o->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (log < 0) die("open %s", o->log);
  int ns[MAX_NS];
  for (int i = 0; i < o->ns_count; i++)
    if ((ns[i] = open(o->ns[i], O_RDONLY | O_CLOEXEC)) < 0) die("open %s", o->ns[i]);
  for (int i = 0; i < o->ns_count; i++)
    if (setns(ns[i], 0)) die("enter %s", o->ns[i]);
  if (!o->host_pid && unshare(CLONE_NEWPID)) die("unshare a pid namespace");
  if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(in, O_CLOEXEC) || pipe2(started, O_CLOEXEC)) die("pipe");
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    complaint_fd = started[1];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    make_root(o);
    if (o->keep_stdin) dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    become(o);
  }
  close(out[1]);
  close(err[1]);
  close(in[0]);
  close(started[1]);
  char reason[2048];
  ssize_t n = read(started[0], reason, sizeof reason);
  if (n > 0) {
    if (write(told[1], reason, n) < 0) _exit(1);
    waitpid(child, NULL, 0);
    _exit(127);
  }
  prctl(PR_SET_NAME, "podrun-shim");
  char text[128];
  snprintf(text, sizeof text, "%d %d", child, getpid());
  write_file(o->pidfile, text);
  snprintf(text, sizeof text, "pid %d", child);
  if (write(told[1], text, strlen(text)) < 0) { /* the kubelet is gone: it finds the pid file when it is back */ }
  close(told[1]);
  complaint_fd = 2;

  static struct stream streams[2];
  streams[0] = (struct stream){ .fd = out[0], .name = "stdout" };
  streams[1] = (struct stream){ .fd = err[0], .name = "stderr" };
  int alive = syscall(SYS_pidfd_open, child, 0);
  for (;;) {
    struct pollfd waits[3] = { { streams[0].fd, POLLIN, 0 }, { streams[1].fd, POLLIN, 0 }, { alive, POLLIN, 0 } };
    if (poll(waits, 3, -1) < 0 && errno != EINTR) break;
    for (int i = 0; i < 2; i++)
      if (waits[i].revents) pump(log, &streams[i]);
    if (waits[2].revents) break;
  }
  int status;
  char when[64];
  if (waitpid(child, &status, 0) < 0) status = 255 << 8;
  for (int i = 0; i < 2; i++) {
    if (streams[i].fd < 0) continue;
    fcntl(streams[i].fd, F_SETFL, O_NONBLOCK); /* a process left in the node's pid namespace may hold the pipe open */
    for (errno = 0; pump(log, &streams[i]) && errno != EAGAIN; errno = 0) {}
  }
  stamp(when, sizeof when);
  snprintf(text, sizeof text, "%d %d %s", WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0, when);
  write_file(o->exit, text);
  return 0;
}

/* ---- exec ---- */

static int exit_code(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return 255;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void resize(int terminal, char *line) {
  struct winsize size = { 0 };
  if (sscanf(line, "%hu %hu", &size.ws_row, &size.ws_col) == 2) ioctl(terminal, TIOCSWINSZ, &size);
}

static void all(int fd, const char *bytes, ssize_t count) {
  for (ssize_t n; count > 0; bytes += n, count -= n)
    if ((n = write(fd, bytes, count)) <= 0) return;
}

static void relay(int terminal) {
  char bytes[8192];
  int input = 0, sizes = 4;
  for (;;) {
    struct pollfd waits[3] = { { terminal, POLLIN, 0 }, { input, POLLIN, 0 }, { sizes, POLLIN, 0 } };
    if (poll(waits, 3, -1) < 0) { if (errno == EINTR) continue; return; }
    if (waits[2].revents) {
      ssize_t n = read(sizes, bytes, sizeof bytes - 1);
      if (n <= 0) sizes = -1;
      else {
        bytes[n] = 0;
        for (char *line = strtok(bytes, "\n"); line; line = strtok(NULL, "\n")) resize(terminal, line);
      }
    }
    if (waits[1].revents) {
      ssize_t n = read(input, bytes, sizeof bytes);
      if (n <= 0) { all(terminal, "\004", 1); input = -1; } /* ^D: the command's end of input */
      else all(terminal, bytes, n);
    }
    if (waits[0].revents) {
      ssize_t n = read(terminal, bytes, sizeof bytes);
      if (n <= 0) return; /* EIO: the last holder of the slave has gone */
      all(1, bytes, n);
    }
  }
}

static int exec_main(struct options *o) {
  complaint_fd = 3;
  fcntl(3, F_SETFD, FD_CLOEXEC);
  int pidfd = syscall(SYS_pidfd_open, o->pid, 0);
  if (pidfd < 0) die("container process %d", o->pid);
  join_cgroup(o->cgroup);
  if (setns(pidfd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)) die("enter the namespaces of %d", o->pid);
  close(pidfd);
  int terminal = -1;
  if (o->tty && ((terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0 || grantpt(terminal) || unlockpt(terminal))) die("open a terminal");
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    if (o->tty) {
      int slave = open(ptsname(terminal), O_RDWR);
      if (slave < 0 || ioctl(slave, TIOCSCTTY, 0)) die("open the terminal");
      for (int i = 0; i < 3; i++) dup2(slave, i);
      if (slave > 2) close(slave);
      close(4);
    }
    become(o);
  }
  close(3);
  if (o->tty) relay(terminal);
  else for (int i = 0; i < 3; i++) close(i); /* the pipes are the command's alone: their ends mean what they say */
  return exit_code(child);
}

/* ---- arguments ---- */

static void parse(struct options *o, int argc, char **argv) {
  o->caps = ~0ull;
  for (int i = 2; i < argc; i++) {
    const char *name = argv[i];
    if (!strcmp(name, "--")) { o->argv = argv + i + 1; return; }
    if (!strcmp(name, "--host-pid")) { o->host_pid = 1; continue; }
    if (!strcmp(name, "--privileged")) { o->privileged = 1; continue; }
    if (!strcmp(name, "--tty")) { o->tty = 1; continue; }
    if (!strcmp(name, "--stdin")) { o->keep_stdin = 1; continue; }
    if (!strcmp(name, "--read-only")) { o->read_only = 1; continue; }
    if (!strcmp(name, "--mount") && i + 3 < argc && o->bind_count < MAX_MOUNTS) {
      o->binds[o->bind_count++] = (struct bind){ argv[i + 1], argv[i + 2], argv[i + 3], -1 };
      i += 3;
      continue;
    }
    if (i + 1 >= argc) die("%s needs a value", name);
    const char *value = argv[++i];
    if (!strcmp(name, "--netns")) o->netns = value;
    else if (!strcmp(name, "--hostname")) o->hostname = value;
    else if (!strcmp(name, "--cgroup")) o->cgroup = value;
    else if (!strcmp(name, "--log")) o->log = value;
    else if (!strcmp(name, "--exit")) o->exit = value;
    else if (!strcmp(name, "--pid-file")) o->pidfile = value;
    else if (!strcmp(name, "--root")) o->root = value;
    else if (!strcmp(name, "--workdir")) o->workdir = value;
    else if (!strcmp(name, "--pid")) o->pid = atoi(value);
    else if (!strcmp(name, "--caps")) o->caps = strtoull(value, NULL, 16);
    else if (!strcmp(name, "--uid")) o->uid = strtoul(value, NULL, 10);
    else if (!strcmp(name, "--gid")) o->gid = strtoul(value, NULL, 10);
    else if (!strcmp(name, "--ns") && o->ns_count < MAX_NS) o->ns[o->ns_count++] = value;
    else die("unknown option %s", name);
  }
  die("no -- before the command");
}

int main(int argc, char **argv) {
  static struct options o;
  errno = 0;
  signal(SIGPIPE, SIG_IGN);
  const char *verb = argc > 1 ? argv[1] : "";
  if (!strcmp(verb, "pause")) pause_main(argc > 2 && strcmp(argv[0], "pause") ? argv[2] : NULL);
  parse(&o, argc, argv);
  if (!strcmp(verb, "sandbox")) return sandbox_main(&o);
  if (!o.argv[0]) die("no command");
  if (!strcmp(verb, "run")) return run_main(&o);
  if (!strcmp(verb, "exec")) return exec_main(&o);
  die("usage: podrun pause|sandbox|run|exec");
}
