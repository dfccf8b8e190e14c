/* SPDX-License-Identifier: MIT */
#include "tool.h"

#include "base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

int input_init(struct input *input)
{
	*input = (struct input){.line = malloc(INPUT_MAX_LINE)};
	return input->line ? 0 : -ENOMEM;
}

void input_fini(struct input *input)
{
	free(input->line);
}

char *input_rest(struct input *input, bool *too_long)
{
	bool any = input->used > 0 || input->too_long;
	*too_long = input->too_long;
	input->line[input->too_long ? 0 : input->used] = '\0';
	input->used = 0;
	input->quoted = input->escaped = input->too_long = false;
	return any ? input->line : NULL;
}

static bool ends_command(struct input *input, char c)
{
	if (c == '\n' || c == '\r')
		return true;
	if (c == ';' && !input->quoted)
		return true;
	if (c == '"' && !input->escaped)
		input->quoted = !input->quoted;
	input->escaped = c == '\\' && input->quoted && !input->escaped;
	return false;
}

char *input_next(struct input *input, const char **text, const char *end, bool *too_long)
{
	while (*text < end) {
		char c = *(*text)++;
		if (ends_command(input, c)) {
			char *command = input_rest(input, too_long);
			if (command)
				return command;
		} else if (input->used < INPUT_MAX_LINE - 1) {
			input->line[input->used++] = c;
			if (c == '\0') /* would end the command early and hide the rest */
				input->line[input->used - 1] = '?';
		} else {
			input->too_long = true;
		}
	}
	return NULL;
}

int input_words(char *command, char *words[INPUT_MAX_WORDS])
{
	int n = 0;
	for (char *c = command;; n++) {
		c += strspn(c, " \t");
		if (*c == '\0')
			return n;
		if (n == INPUT_MAX_WORDS)
			return -E2BIG;

		words[n] = c;
		bool quoted = false;
		for (; *c && (quoted || (*c != ' ' && *c != '\t')); c++) {
			if (*c == '"')
				quoted = !quoted;
			else if (*c == '\\' && quoted && c[1])
				c++;
		}
		if (quoted)
			return -EINVAL;
		if (*c)
			*c++ = '\0';
	}
}

int input_long(const char *text, long *value)
{
	if (!isdigit((unsigned char)text[text[0] == '-']))
		return -EINVAL;
	char *end;
	errno = 0;
	long parsed = strtol(text, &end, 10);
	if (*end != '\0' || errno == ERANGE)
		return -EINVAL;
	*value = parsed;
	return 0;
}

int input_bytes(const char *text, uint64_t *value)
{
	/* Not parse_uint() for all: an offset with a leading zero is not octal to anyone. */
	if (strncmp(text, "0x", 2) == 0 || strncmp(text, "0X", 2) == 0)
		return parse_uint(text, 0, UINT64_MAX, value) == 0 ? 0 : -EINVAL;
	return strchr(text, '.') || parse_size(text, value) < 0 ? -EINVAL : 0;
}

static long decode_text(char *text)
{
	char *out = text;
	const char *in = text + 1;
	while (*in && *in != '"') {
		bool escape = *in == '\\';
		in += escape;
		if (escape && !strchr("n\"\\", *in))
			return -EINVAL;
		*out = *in++;
		if (escape && *out == 'n')
			*out = '\n';
		out++;
	}
	return in[0] == '"' && in[1] == '\0' ? out - text : -EINVAL;
}

long input_data(char *text)
{
	if (text[0] == '"')
		return decode_text(text);

	size_t digits = strspn(text, "0123456789abcdefABCDEF");
	if (digits == 0 || digits % 2 != 0 || text[digits] != '\0')
		return -EINVAL;
	for (size_t i = 0; i < digits / 2; i++) {
		char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
		text[i] = (char)strtoul(pair, NULL, 16);
	}
	return (long)digits / 2;
}
