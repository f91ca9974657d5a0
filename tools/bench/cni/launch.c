/*
 * Starts programs as a container runtime does and times each from fork to wait. It is small, so that forking it costs the
 * same little for every contestant. One job a line on stdin:
 *
 *     STDIN-FILES \t STDOUT-FILE \t PROGRAM [\t NAME=value]...      stdin is the content of STDIN-FILES (joined by '+') in a row
 *
 * A line is answered by "<nanoseconds> <exit status>". But `burst PODS JOBS`, followed by PODS × JOBS lines, pod by pod, starts
 * all pods at once, the jobs of each one after another, and answers "<nanoseconds from first fork to last exit> <failed jobs>".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIELDS_MAX = 63 };

struct job {
	char *fields[FIELDS_MAX + 1]; /* stdin, stdout, program, environment, NULL */
};

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Splits `line`, which lives on in the job. */
static void parse(char *line, struct job *job)
{
	char *next = line;
	int n = 0;
	line[strcspn(line, "\n")] = 0;
	while (next && n < FIELDS_MAX)
		job->fields[n++] = strsep(&next, "\t");
	job->fields[n] = NULL;
	if (n < 3)
		exit(2);
}

/* The content of `files` ("a+b+c", which is cut up) in a row. */
static int open_input(char *files)
{
	int all = memfd_create("stdin", MFD_CLOEXEC);
	for (char *file; (file = strsep(&files, "+"));) {
		int one = open(file, O_RDONLY | O_CLOEXEC);
		if (all < 0 || one < 0)
			exit(3);
		while (sendfile(all, one, NULL, 1 << 20) > 0)
			;
		close(one);
	}
	lseek(all, 0, SEEK_SET);
	return all;
}

/* The exit status; `*took` is the time from fork to wait. */
static int run(struct job *job, long long *took)
{
	char **fields = job->fields;
	int in = open_input(fields[0]), out = open(fields[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out < 0)
		exit(3);
	int status;
	long long began = now();
	pid_t child = vfork();
	if (child == 0) {
		dup2(in, 0);
		dup2(out, 1);
		execve(fields[2], (char *[]){ fields[2], NULL }, fields + 3);
		_exit(127);
	}
	waitpid(child, &status, 0);
	*took = now() - began;
	close(in);
	close(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void burst(int pods, int each)
{
	struct job *jobs = calloc((size_t)(pods * each), sizeof *jobs);
	long long took;
	for (int i = 0; i < pods * each; i++) {
		char *line = NULL;
		size_t room = 0;
		if (!jobs || getline(&line, &room, stdin) < 0)
			exit(2);
		parse(line, &jobs[i]);
	}
	long long began = now();
	for (int pod = 0; pod < pods; pod++) {
		if (fork() > 0)
			continue;
		int failed = 0;
		for (int i = 0; i < each; i++)
			failed += run(&jobs[pod * each + i], &took) != 0;
		_exit(failed);
	}
	int failed = 0, status;
	while (wait(&status) > 0)
		failed += WIFEXITED(status) ? WEXITSTATUS(status) : each;
	printf("%lld %d\n", now() - began, failed);
	/* Their text is kept: the program lives for one run. */
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;
	while (getline(&line, &room, stdin) > 0) {
		int pods, each;
		if (sscanf(line, "burst %d %d", &pods, &each) == 2)
			burst(pods, each);
		else {
			struct job job;
			long long took;
			parse(line, &job);
			int status = run(&job, &took);
			printf("%lld %d\n", took, status);
		}
		fflush(stdout);
	}
	return 0;
}
