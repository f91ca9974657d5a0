/*
 * JSON (RFC 8259), read in place and strictly: what this accepts every other reader accepts and understands alike. Nothing is
 * copied or unescaped; a value is a span of the text.
 */
#ifndef TWILL_JSON_H
#define TWILL_JSON_H

#include "text.h"

struct span {
	const char *at, *end;
};

enum { JSON_DEPTH = 32 };

static const char *json_value(const char *at, const char *end, int depth);

static const char *json_blank(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	return at;
}

/* Each of these returns what follows the thing it is named for, or NULL if there is no such thing at `at`. */

static const char *json_word(const char *at, const char *end, const char *word)
{
	for (; *word; word++, at++)
		if (at >= end || *at != *word)
			return NULL;
	return at;
}

static const char *json_string(const char *at, const char *end)
{
	if (at >= end || *at != '"')
		return NULL;
	for (at++; at < end && *at != '"'; at++) {
		if ((unsigned char)*at < ' ')
			return NULL;
		if (*at != '\\')
			continue;
		if (++at >= end)
			return NULL;
		const char *escapes = "\"\\/bfnrtu";
		while (*escapes && *escapes != *at)
			escapes++;
		if (!*escapes)
			return NULL;
		for (int digits = *at == 'u' ? 4 : 0; digits > 0; digits--) {
			if (++at >= end)
				return NULL;
			char c = *at;
			if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
				return NULL;
		}
	}
	return at < end ? at + 1 : NULL;
}

static const char *json_digits(const char *at, const char *end)
{
	const char *from = at;
	while (at < end && *at >= '0' && *at <= '9')
		at++;
	return at > from ? at : NULL;
}

static const char *json_number(const char *at, const char *end)
{
	if (at < end && *at == '-')
		at++;
	const char *whole = at;
	at = json_digits(at, end);
	if (!at || (*whole == '0' && at - whole > 1))
		return NULL;
	if (at < end && *at == '.' && !(at = json_digits(at + 1, end)))
		return NULL;
	if (at < end && (*at == 'e' || *at == 'E')) {
		at++;
		if (at < end && (*at == '+' || *at == '-'))
			at++;
		at = json_digits(at, end);
	}
	return at;
}

/* The member or element at `at`. With a `name` (of an object's member) that gets the name's span, quotes included. */
static const char *json_member(const char *at, const char *end, int depth, struct span *name, struct span *value)
{
	at = json_blank(at, end);
	if (name) {
		name->at = at;
		if (!(at = json_string(at, end)))
			return NULL;
		name->end = at;
		at = json_blank(at, end);
		if (at >= end || *at++ != ':')
			return NULL;
		at = json_blank(at, end);
	}
	value->at = at;
	if (!(at = json_value(at, end, depth)))
		return NULL;
	value->end = at;
	return json_blank(at, end);
}

static const char *json_value(const char *at, const char *end, int depth)
{
	if (at >= end || depth > JSON_DEPTH)
		return NULL;
	if (*at == '{' || *at == '[') {
		struct span name, value;
		int object = *at == '{';
		char close = object ? '}' : ']';
		at = json_blank(at + 1, end);
		if (at < end && *at == close)
			return at + 1;
		while ((at = json_member(at, end, depth + 1, object ? &name : NULL, &value)) && at < end && *at == ',')
			at++;
		return at && at < end && *at == close ? at + 1 : NULL;
	}
	if (*at == '"')
		return json_string(at, end);
	if (*at == 't')
		return json_word(at, end, "true");
	if (*at == 'f')
		return json_word(at, end, "false");
	if (*at == 'n')
		return json_word(at, end, "null");
	return json_number(at, end);
}

static int span_is(struct span span, const char *text)
{
	for (; *text; text++, span.at++)
		if (span.at >= span.end || *span.at != *text)
			return 0;
	return span.at == span.end;
}

/* Finds the members called `names` (quoted, NULL at the end) of the one object that is `text`; those that are absent stay
 * empty spans. 0 if the text is anything else, or has a member that is not in the list, or one of them twice. */
static int json_object(struct span text, const char *const *names, struct span *found)
{
	const char *at = json_blank(text.at, text.end), *end = text.end;
	for (size_t i = 0; names[i]; i++)
		found[i] = (struct span){ NULL, NULL };
	if (at >= end || *at != '{')
		return 0;
	at = json_blank(at + 1, end);
	int more = at < end && *at != '}';
	while (more) {
		struct span name, value;
		if (!(at = json_member(at, end, 1, &name, &value)) || at >= end)
			return 0;
		size_t i = 0;
		while (names[i] && !span_is(name, names[i]))
			i++;
		if (!names[i] || found[i].at)
			return 0;
		found[i] = value;
		more = *at == ',';
		if (more)
			at++;
	}
	return at < end && *at == '}' && json_blank(at + 1, end) == end;
}

#endif
