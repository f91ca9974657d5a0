/*
 * What a runtime asks for every pod and needs no agent: ADD and DEL of loopback, which bring lo up and down, and ADD of portmap
 * without a port, which hands on what the plugin before it made. Answered here, each saves a runtime a round trip to the agent,
 * and none waits for one.
 *
 * Only the form that runtimes really send is answered, member for member. Whatever is unusual (another version, a member
 * not listed here, a path to be escaped, a refusal of the kernel) goes to the agent, which knows all the rules and all the
 * errors and gives the same answer where both know one (src/cni/shim.ktest.ts holds them to it).
 */
#ifndef TWILL_ALONE_H
#define TWILL_ALONE_H

#include "json.h"

static int is_version(struct span value)
{
	return span_is(value, "\"0.3.0\"") || span_is(value, "\"0.3.1\"") || span_is(value, "\"0.4.0\"") || span_is(value, "\"1.0.0\"");
}

/* A name that the agent too would take: CNI's rule for network names, and nothing that JSON would have to escape. */
static int is_name(struct span value)
{
	if (value.end - value.at < 3 || *value.at != '"')
		return 0;
	for (const char *c = value.at + 1; c < value.end - 1; c++) {
		int alnum = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
		if (!alnum && (c == value.at + 1 || (*c != '_' && *c != '.' && *c != '-')))
			return 0;
	}
	return 1;
}

/* The answer to a portmap ADD: the prevResult in `conf`, if no port is to be mapped. */
static int portmap_alone(struct span conf, struct span *answer)
{
	enum { VERSION, NAME, TYPE, CAPABILITIES, RUNTIME, PREV };
	static const char *const members[] = { "\"cniVersion\"", "\"name\"", "\"type\"", "\"capabilities\"", "\"runtimeConfig\"",
					       "\"prevResult\"", NULL };
	static const char *const result[] = { "\"cniVersion\"", "\"interfaces\"", "\"ips\"", "\"routes\"", "\"dns\"", NULL };
	static const char *const runtime[] = { "\"portMappings\"", NULL };
	struct span got[6], prev[5], ports[1];
	if (!json_object(conf, members, got) || !is_version(got[VERSION]) || !is_name(got[NAME]))
		return 0;
	if (got[RUNTIME].at && (!json_object(got[RUNTIME], runtime, ports) || (ports[0].at && !span_is(ports[0], "[]"))))
		return 0;
	if (!got[PREV].at || !json_object(got[PREV], result, prev) || !prev[VERSION].at)
		return 0;
	const char *a = prev[VERSION].at, *b = got[VERSION].at;
	for (; a < prev[VERSION].end && b < got[VERSION].end && *a == *b; a++, b++)
		;
	if (a != prev[VERSION].end || b != got[VERSION].end)
		return 0;
	*answer = got[PREV];
	return 1;
}

/* True if `path` can stand in JSON as it is. */
static int is_plain(const char *path)
{
	for (; *path; path++)
		if (*path < ' ' || *path > '~' || *path == '"' || *path == '\\')
			return 0;
	return 1;
}

/* Brings lo up or down in the namespace at `netns`, which becomes ours. */
static int set_lo(const char *netns, int up)
{
	struct ifreq request = { .name = "lo" };
	int ns = (int)sys_open(netns, O_RDONLY, 0);
	if (ns < 0)
		return 0;
	long entered = sys_setns(ns, CLONE_NEWNET);
	sys_close(ns);
	if (entered < 0)
		return 0;
	int fd = (int)sys_socket(AF_INET, SOCK_DGRAM);
	if (fd < 0)
		return 0;
	int done = sys_ioctl(fd, SIOCGIFFLAGS, &request) >= 0;
	request.flags = (short)(up ? request.flags | IFF_UP : request.flags & ~IFF_UP);
	done = done && sys_ioctl(fd, SIOCSIFFLAGS, &request) >= 0;
	sys_close(fd);
	return done;
}

/* A kernel without IPv6, or told to have none at boot, has no such sockets. */
static int has_ipv6(void)
{
	long fd = sys_socket(AF_INET6, SOCK_DGRAM);
	if (fd >= 0)
		sys_close((int)fd);
	return fd >= 0;
}

/* True if `conf` is loopback's in its usual form; its version, in its quotes, is copied. */
static int is_loopback_conf(struct span conf, char version[8])
{
	enum { VERSION, NAME, TYPE };
	static const char *const members[] = { "\"cniVersion\"", "\"name\"", "\"type\"", NULL };
	struct span got[3];
	if (!json_object(conf, members, got) || !is_version(got[VERSION]) || !is_name(got[NAME]))
		return 0;
	size_t n = (size_t)(got[VERSION].end - got[VERSION].at);
	memcpy(version, got[VERSION].at, n);
	version[n] = 0;
	return 1;
}

/* A loopback DEL, done. A namespace that is gone is the agent's to judge. */
static int loopback_del_alone(struct span conf, const char *netns)
{
	char version[8];
	return is_loopback_conf(conf, version) && set_lo(netns, 0);
}

/* The answer to a loopback ADD, written into `answer`. */
static int loopback_alone(struct span conf, const char *netns, struct text *answer)
{
	char version[8];
	if (!is_loopback_conf(conf, version) || !is_plain(netns) || !set_lo(netns, 1))
		return 0;
	int dated = !same(version, "\"1.0.0\"");
	const char *four = dated ? "            \"version\": \"4\",\n" : "", *six = dated ? "            \"version\": \"6\",\n" : "";
	add(answer, "{\n    \"cniVersion\": "), add(answer, version);
	add(answer, ",\n    \"interfaces\": [\n        {\n            \"name\": \"lo\",\n            \"mac\": \"00:00:00:00:00:00\",\n"
		    "            \"sandbox\": \"");
	add(answer, netns);
	add(answer, "\"\n        }\n    ],\n    \"ips\": [\n        {\n"), add(answer, four);
	add(answer, "            \"interface\": 0,\n            \"address\": \"127.0.0.1/8\"\n        }");
	if (has_ipv6()) {
		add(answer, ",\n        {\n"), add(answer, six);
		add(answer, "            \"interface\": 0,\n            \"address\": \"::1/128\"\n        }");
	}
	add(answer, "\n    ]"), add(answer, dated ? ",\n    \"dns\": {}\n}" : "\n}");
	return !answer->cut;
}

#endif
