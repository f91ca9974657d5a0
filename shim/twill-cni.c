/*
 * The CNI plugin that a container runtime executes: one static binary under the names flannel, portmap, loopback, bridge
 * and host-local. It knows nothing of networks. It hands the CNI_* environment and stdin to the agent over a unix socket,
 * prints the agent's answer and exits with the agent's status. The frame is described in src/cni/protocol.ts.
 *
 * Alone it answers
 *   VERSION and a call without CNI_COMMAND   always
 *   ADD and DEL of loopback, ADD of portmap  always, in their usual form: see alone.h
 *     without maps
 *   ADD, CHECK, GC                           error 11 (try again later) at once, when no agent listens
 *   STATUS                                   error 50 (plugin not available), when no agent listens
 *   DEL                                      success, when no agent listens and the request has been written durably into
 *                                            the delete queue, which the agent empties before its first ADD
 */
#include "alone.h"
#include "errand.h"
#include "sys.h"
#include "text.h"

#ifndef TWILL_VERSION
#error "build with make -C shim"
#endif

enum {
	PROTOCOL = 3,
	CODE_ERRAND = 256,    /* of an answer that is none yet: above every exit status */
	HEADER = 20,          /* magic, protocol, code, length */
	FRAME_MAX = 1 << 20,  /* of a request, an errand, a report and an answer */
	NAME_MAX = 255,       /* of a file */
	PATH_MAX = 512,
};

/* What install.ts knows our own binary by. */
__attribute__((used)) static const char marker[] = "twill-cni shim " TWILL_VERSION;

/* Keep in step with src/cni/version.ts. */
#define SUPPORTED "\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
#define SUPPORTED_TEXT "0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"

static const char magic[8] = { 'T', 'W', 'I', 'L', 'L', 'C', 'N', 'I' };
static const char *socket_path; /* set in start(): no initialised data, so no page of it in the file */
static char frame[FRAME_MAX];

/* ---- failure -------------------------------------------------------------------------------------------------------- */

/* A CNI error result in the form the reference plugins print; `a` and `b` follow each other. */
static __attribute__((noreturn)) void fail(unsigned code, const char *a, const char *subject, const char *b)
{
	char buffer[2048];
	struct text t = { buffer, 0, sizeof buffer, 0 };
	add(&t, "{\n    \"code\": ");
	add_number(&t, code);
	add(&t, ",\n    \"msg\": \"");
	add_json(&t, a);
	add_json(&t, subject);
	add_json(&t, b);
	add(&t, "\"\n}");
	write_all(1, t.at, t.length);
	sys_exit(1);
}

/* ---- the request --------------------------------------------------------------------------------------------------- */

struct request {
	const char *plugin, *command, *container, *ifname;
	const char *netns, *path;
	size_t length; /* of the frame */
	size_t stdin_at; /* where in the frame the configuration begins */
};

/* `text` and its NUL go into the frame at `at`; the new end. */
static size_t put_text(size_t at, const char *prefix, const char *text)
{
	size_t a = length_of(prefix), b = length_of(text) + 1;
	if (at + a + b >= FRAME_MAX)
		fail(7, "the CNI_* environment is larger than 1 MiB: ", prefix, "");
	memcpy(frame + at, prefix, a);
	memcpy(frame + at + a, text, b);
	return at + a + b;
}

static void put_header(char *to, uint32_t code, size_t length)
{
	memcpy(to, magic, sizeof magic);
	put32(to + 8, PROTOCOL);
	put32(to + 12, code);
	put32(to + 16, (uint32_t)(length - HEADER));
}

/* Fills `frame` with the environment and stdin. */
static void read_request(struct request *request, char **env)
{
	size_t at = put_text(HEADER, "PLUGIN=", request->plugin);
	for (; *env; env++)
		if (after(*env, "CNI_"))
			at = put_text(at, "", *env);
	at = put_text(at, "", ""); /* the empty text ends the environment */
	long n = read_all(0, frame + at, FRAME_MAX - at);
	if (n < 0)
		fail(5, "cannot read the network configuration from stdin", "", "");
	if ((size_t)n == FRAME_MAX - at)
		fail(7, "the network configuration on stdin is larger than 1 MiB", "", "");
	request->length = at + (size_t)n;
	request->stdin_at = at;
	put_header(frame, 0, request->length);
}

/* ---- the agent ----------------------------------------------------------------------------------------------------- */

/* A connection to the agent, or -1 if none listens. */
static int connect_agent(void)
{
	struct sockaddr_un to = { .family = AF_UNIX };
	size_t n = length_of(socket_path);
	if (n >= sizeof to.path)
		fail(4, "the path of the agent's socket is too long: ", socket_path, "");
	memcpy(to.path, socket_path, n);
	int fd = (int)sys_socket(AF_UNIX, SOCK_STREAM);
	if (fd < 0)
		return -1;
	long error;
	while ((error = sys_connect(fd, &to)) == -EINTR)
		;
	if (error < 0) {
		sys_close(fd);
		return -1;
	}
	return fd;
}

static int send_all(int fd, const char *from, size_t length)
{
	for (size_t sent = 0; sent < length;) {
		long n = sys_send(fd, from + sent, length - sent);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return -1;
		sent += (size_t)n;
	}
	return 0;
}

/* Reads one frame from the agent into `answer` (FRAME_MAX bytes); the length of its body, or -1 if the agent went away. */
static long read_answer(int fd, char *answer)
{
	if (read_all(fd, answer, HEADER) != HEADER)
		return -1;
	for (size_t i = 0; i < sizeof magic; i++)
		if (answer[i] != magic[i])
			fail(11, "what listens at ", socket_path, " is not the Twill agent");
	if (get32(answer + 8) != PROTOCOL)
		fail(11, "this CNI plugin and the Twill agent at ", socket_path,
		     " are of different versions; the agent installs its own plugins when it starts: restart it");
	size_t length = get32(answer + 16);
	if (length > FRAME_MAX - HEADER || read_all(fd, answer + HEADER, length) != (long)length)
		return -1;
	return (long)length;
}

/* Sends the request, runs the errands that come back, prints the answer and exits. Returns only if the agent went away
 * without an answer. */
static void ask(int fd, const struct request *request, char **env)
{
	static char answer[FRAME_MAX + 1], report[FRAME_MAX];
	if (send_all(fd, frame, request->length) < 0)
		return;
	for (;;) {
		long length = read_answer(fd, answer);
		if (length < 0)
			return;
		if (get32(answer + 12) != CODE_ERRAND) {
			if (write_all(1, answer + HEADER, (size_t)length) < 0)
				sys_exit(1);
			sys_exit((int)get32(answer + 12));
		}
		size_t did = HEADER + run_errand(answer + HEADER, (size_t)length, env, report + HEADER, sizeof report - HEADER);
		put_header(report, CODE_ERRAND, did);
		if (send_all(fd, report, did) < 0)
			return;
	}
}

/* ---- the delete queue ---------------------------------------------------------------------------------------------- */

/* CNI's own rule for container IDs; also what makes the text safe as a part of a file name. */
static int is_id(const char *text)
{
	for (const char *c = text; *c; c++) {
		int alnum = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
		if (!alnum && (c == text || (*c != '_' && *c != '.' && *c != '-')))
			return 0;
	}
	return *text != 0;
}

static int is_ifname(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c > '~' || *c == '/' || *c == ':' || c - text >= 15)
			return 0;
	return *text != 0 && !same(text, ".") && !same(text, "..");
}

/* Answers an ADD or DEL that needs no agent and exits; returns if this is none. */
static void answer_alone(const struct request *request)
{
	struct span conf = { frame + request->stdin_at, frame + request->length }, prev;
	char buffer[2048];
	struct text answer = { buffer, 0, sizeof buffer, 0 };
	if (!is_id(request->container) || !is_ifname(request->ifname) || !*request->netns || !*request->path)
		return;
	if (same(request->command, "DEL")) {
		if (same(request->plugin, "loopback") && loopback_del_alone(conf, request->netns))
			sys_exit(0);
		return;
	}
	if (same(request->plugin, "portmap") && portmap_alone(conf, &prev))
		sys_exit(write_all(1, prev.at, (size_t)(prev.end - prev.at)) < 0);
	if (same(request->plugin, "loopback") && loopback_alone(conf, request->netns, &answer))
		sys_exit(write_all(1, answer.at, answer.length) < 0);
}

static int sync_directory(const char *path)
{
	int fd = (int)sys_open(path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return -1;
	long error = sys_fsync(fd);
	sys_close(fd);
	return error < 0 ? -1 : 0;
}

/* Writes the frame durably to `path`, which it fills in: temp, fsync, rename, fsync of the directory. */
static int queue_delete(const struct request *request, struct text *path)
{
	char temp_buffer[PATH_MAX], directory[PATH_MAX];
	struct text temp = { temp_buffer, 0, sizeof temp_buffer, 0 }, dir = { directory, 0, sizeof directory, 0 };
	size_t slash = length_of(socket_path);
	while (slash > 0 && socket_path[slash - 1] != '/')
		slash--;
	if (slash < 2)
		return -1;
	add(&dir, socket_path);
	if (dir.cut)
		return -1;
	dir.length = slash - 1;
	directory[dir.length] = 0;
	sys_mkdir(directory, 0700);
	add(&dir, "/delete-queue");
	sys_mkdir(directory, 0700);

	add(path, directory), add(path, "/");
	size_t name = path->length;
	add(path, request->container), add(path, "-"), add(path, request->ifname), add(path, "-"), add(path, request->plugin);
	add(&temp, directory), add(&temp, "/.tmp-"), add_number(&temp, (unsigned long)sys_getpid());
	if (dir.cut || path->cut || temp.cut || path->length - name > NAME_MAX)
		return -1;

	int fd = (int)sys_open(temp_buffer, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return -1;
	int failed = write_all(fd, frame, request->length) < 0 || sys_fsync(fd) < 0;
	sys_close(fd);
	if (failed || sys_rename(temp_buffer, path->at) < 0) {
		sys_unlink(temp_buffer);
		return -1;
	}
	return sync_directory(directory);
}

/* DEL with no agent. The agent may have come up while the file was being written, too late to find it: hence the second try. */
static __attribute__((noreturn)) void delete_later(const struct request *request, char **env)
{
	char buffer[PATH_MAX];
	struct text path = { buffer, 0, sizeof buffer, 0 };
	buffer[0] = 0;
	if (!is_id(request->container))
		fail(4, "CNI_CONTAINERID is missing or has invalid characters: ", request->container, "");
	if (!is_ifname(request->ifname))
		fail(4, "CNI_IFNAME is missing or no interface name: ", request->ifname, "");
	if (queue_delete(request, &path) < 0)
		fail(5, "no Twill agent listens at ", socket_path, " and the delete queue beside it cannot be written: free space there or start the agent");
	int fd = connect_agent();
	if (fd >= 0) {
		sys_unlink(buffer);
		ask(fd, request, env);
		if (queue_delete(request, &(struct text){ buffer, 0, sizeof buffer, 0 }) < 0)
			fail(11, "the Twill agent went away during DEL: ", request->container, "");
	}
	sys_exit(0);
}

/* ---- main ---------------------------------------------------------------------------------------------------------- */

static __attribute__((noreturn)) void about(const char *plugin)
{
	char buffer[256];
	struct text t = { buffer, 0, sizeof buffer, 0 };
	add(&t, "CNI "), add(&t, plugin), add(&t, " plugin: "), add(&t, marker), add(&t, "\nCNI protocol versions supported: " SUPPORTED_TEXT "\n");
	write_all(2, t.at, t.length);
	sys_exit(0);
}

__attribute__((used, noreturn)) void start(long *stack)
{
	char **argv = (char **)(stack + 1), **env = argv + stack[0] + 1;
	struct request request = { .plugin = "", .command = "", .container = "", .ifname = "", .netns = "", .path = "" };
	socket_path = "/run/twill/cni.sock";
	for (const char *c = stack[0] > 0 ? argv[0] : ""; *c; c++)
		if (c == argv[0] || c[-1] == '/')
			request.plugin = c;
	for (char **e = env; *e; e++) {
		const char *value;
		if ((value = after(*e, "CNI_COMMAND=")))
			request.command = value;
		else if ((value = after(*e, "CNI_CONTAINERID=")))
			request.container = value;
		else if ((value = after(*e, "CNI_IFNAME=")))
			request.ifname = value;
		else if ((value = after(*e, "CNI_NETNS=")))
			request.netns = value;
		else if ((value = after(*e, "CNI_PATH=")))
			request.path = value;
		else if ((value = after(*e, "TWILL_CNI_SOCKET=")))
			socket_path = value;
	}
	const char *command = request.command;
	if (!*command)
		about(request.plugin);
	if (same(command, "VERSION")) {
		static const char versions[] = "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[" SUPPORTED "]}\n";
		sys_exit(write_all(1, versions, sizeof versions - 1) < 0);
	}
	if (!same(command, "ADD") && !same(command, "DEL") && !same(command, "CHECK") && !same(command, "STATUS") && !same(command, "GC"))
		fail(4, "unknown CNI_COMMAND: ", command, "");

	read_request(&request, env);
	if (same(command, "ADD") || same(command, "DEL"))
		answer_alone(&request);
	int fd = connect_agent();
	if (fd >= 0)
		ask(fd, &request, env);
	if (same(command, "DEL"))
		delete_later(&request, env);
	if (fd >= 0)
		fail(11, "the Twill agent at ", socket_path, " went away before it answered: try again");
	fail(same(command, "STATUS") ? 50 : 11, "no Twill agent listens at ", socket_path,
	     ": look at the kube-flannel pod of this node (kubectl -n kube-flannel get pod -owide), or start twill agent");
}
