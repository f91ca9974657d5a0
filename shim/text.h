/* Small words for NUL-terminated texts, for building one in a buffer of fixed size, for integers on the wire, for whole reads and writes. */
#ifndef TWILL_TEXT_H
#define TWILL_TEXT_H

#include "sys.h"

static size_t length_of(const char *text)
{
	size_t n = 0;
	while (text[n])
		n++;
	return n;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* What follows `prefix` in `text`, or NULL. */
static const char *after(const char *text, const char *prefix)
{
	while (*prefix)
		if (*text++ != *prefix++)
			return NULL;
	return text;
}

/* A text under construction; what does not fit is cut, and `cut` says so. */
struct text {
	char *at;
	size_t length, size;
	int cut;
};

static void add(struct text *t, const char *more)
{
	for (; *more; more++) {
		if (t->length + 1 >= t->size) {
			t->cut = 1;
			break;
		}
		t->at[t->length++] = *more;
	}
	t->at[t->length] = 0;
}

static void add_number(struct text *t, unsigned long n)
{
	char digits[24];
	int i = sizeof digits - 1;
	digits[i] = 0;
	do
		digits[--i] = (char)('0' + n % 10);
	while (n /= 10);
	add(t, digits + i);
}

/* As the inside of a JSON string. Bytes that JSON would not take as they are become '?'. */
static void add_json(struct text *t, const char *more)
{
	for (; *more; more++) {
		unsigned char c = (unsigned char)*more;
		char one[3] = { (char)c, 0, 0 };
		if (c == '"' || c == '\\')
			one[0] = '\\', one[1] = (char)c;
		else if (c < ' ' || c > '~')
			one[0] = '?';
		add(t, one);
	}
}

/* Integers in network order. */

static uint32_t get32(const char *at)
{
	const unsigned char *b = (const unsigned char *)at;
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void put32(char *at, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		at[i] = (char)(n >> (24 - 8 * i));
}

/* Whole texts in and out. */

static int write_all(int fd, const char *from, size_t length)
{
	while (length > 0) {
		long n = sys_write(fd, from, length);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return -1;
		from += n, length -= (size_t)n;
	}
	return 0;
}

/* Reads until `length` bytes or the end; returns how many, or -errno. */
static long read_all(int fd, char *to, size_t length)
{
	size_t have = 0;
	while (have < length) {
		long n = sys_read(fd, to + have, length - have);
		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (long)have;
}

#endif
