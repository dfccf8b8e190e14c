/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A region that is not sealed can be shrunk by anyone at any time, and
 * touching what is gone raises SIGBUS. For a debugging tool that is an answer and not a crash, so
 * the copy is done under a handler.
 */
#include "tool.h"

#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK    4096u
#define MAX_JSON (1u << 20) /* bytes that `read` puts into one JSON line */

static sigjmp_buf bus_error;

static void on_sigbus(int number)
{
	(void)number;
	siglongjmp(bus_error, 1);
}

bool guarded_call(void (*function)(void *argument), void *argument)
{
	struct sigaction action = {.sa_handler = on_sigbus};
	struct sigaction before;
	sigaction(SIGBUS, &action, &before);
	volatile bool returned = false;
	if (sigsetjmp(bus_error, 1) == 0) {
		function(argument);
		returned = true;
	}
	sigaction(SIGBUS, &before, NULL);
	return returned;
}

struct question {
	const struct ivshmem_peer *peer;
	struct ivshmem_identity *identity;
	int result;
};

static void ask_identity(void *argument)
{
	struct question *question = argument;
	question->result = ivshmem_identity(question->peer, question->identity);
}

bool read_identity(struct client *c, struct ivshmem_identity *identity)
{
	*identity = (struct ivshmem_identity){.struct_size = sizeof(*identity)};
	struct question question = {c->peer, identity, -1};
	return guarded_call(ask_identity, &question) && question.result == 0;
}

struct copy {
	void *to;
	const void *from;
	size_t n;
};

static void run_copy(void *argument)
{
	const struct copy *copy = argument;
	memcpy(copy->to, copy->from, copy->n);
}

static bool guarded_copy(void *to, const void *from, size_t n)
{
	struct copy copy = {to, from, n};
	return guarded_call(run_copy, &copy);
}

static enum command_status fail_gone(struct client *c, uint64_t offset)
{
	return command_fail(c, COMMAND_FAILED,
		"no memory behind offset 0x%llx any more: somebody has shrunk the region",
		(unsigned long long)offset);
}

static enum command_status read_region(struct client *c, uint64_t offset, void *to, size_t n)
{
	const char *memory = ivshmem_region(c->peer, NULL);
	return guarded_copy(to, memory + offset, n) ? COMMAND_OK : fail_gone(c, offset);
}

static enum command_status write_region(
	struct client *c, uint64_t offset, const void *from, size_t n)
{
	char *memory = ivshmem_region(c->peer, NULL);
	if (!(ivshmem_capabilities(c->peer) & IVSHMEM_CAP_WRITE))
		return command_fail(c, COMMAND_FAILED, "the region is mapped read-only");
	return guarded_copy(memory + offset, from, n) ? COMMAND_OK : fail_gone(c, offset);
}

static enum command_status get_bytes(
	struct client *c, const char *word, const char *what, uint64_t *value)
{
	if (input_bytes(word, value) == 0)
		return COMMAND_OK;
	return command_fail(
		c, COMMAND_MISUSED, "'%s' is no %s; give bytes such as 64, 0x40 or 4K", word, what);
}

static enum command_status check_range(struct client *c, uint64_t offset, uint64_t length)
{
	uint64_t size;
	ivshmem_region(c->peer, &size);
	if (offset <= size && length <= size - offset)
		return COMMAND_OK;
	return command_fail(c, COMMAND_FAILED,
		"%llu bytes at offset %llu reach beyond the end of the region, which has %llu",
		(unsigned long long)length, (unsigned long long)offset, (unsigned long long)size);
}

/* OFFSET and LENGTH of the words, checked. */
static enum command_status get_range(
	struct client *c, char **words, uint64_t *offset, uint64_t *length)
{
	enum command_status status = get_bytes(c, words[1], "offset", offset);
	if (status == COMMAND_OK)
		status = get_bytes(c, words[2], "length", length);
	return status == COMMAND_OK ? check_range(c, *offset, *length) : status;
}

/* ---- read ---- */

static void print_hex_line(uint64_t offset, const unsigned char *bytes, size_t n)
{
	printf("%08llx ", (unsigned long long)offset);
	for (size_t i = 0; i < 16; i++) {
		if (i < n)
			printf("%s %02x", i == 8 ? " " : "", bytes[i]);
		else
			printf("%s   ", i == 8 ? " " : "");
	}
	printf("  |");
	for (size_t i = 0; i < n; i++)
		putchar(bytes[i] < 0x80 && isprint(bytes[i]) ? bytes[i] : '.');
	printf("|\n");
}

static enum command_status read_as_text(struct client *c, uint64_t offset, uint64_t length)
{
	unsigned char chunk[CHUNK] = {0};
	while (length > 0) {
		size_t n = length < CHUNK ? (size_t)length : CHUNK;
		if (read_region(c, offset, chunk, n) != COMMAND_OK)
			return COMMAND_FAILED;
		for (size_t i = 0; i < n; i += 16)
			print_hex_line(offset + i, chunk + i, n - i < 16 ? n - i : 16);
		offset += n;
		length -= n;
	}
	return COMMAND_OK;
}

static enum command_status read_as_json(struct client *c, uint64_t offset, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char *bytes = malloc(length + 1);
	char *hex = malloc(2 * length + 1);
	enum command_status status = COMMAND_FAILED;
	if (!bytes || !hex) {
		command_fail(c, COMMAND_FAILED, "no memory");
		goto out;
	}
	memset(bytes, 0, length);
	status = read_region(c, offset, bytes, length);
	if (status != COMMAND_OK)
		goto out;
	for (size_t i = 0; i < length; i++) {
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	hex[2 * length] = '\0';
	command_result(c, json_pack("{s:I, s:s}", "offset", (json_int_t)offset, "hex", hex));
out:
	free(hex);
	free(bytes);
	return status;
}

enum command_status command_read(struct client *c, int n, char **words)
{
	uint64_t offset, length;
	(void)n;
	enum command_status status = get_range(c, words, &offset, &length);
	if (status != COMMAND_OK)
		return status;
	if (!c->json)
		return read_as_text(c, offset, length);
	if (length > MAX_JSON)
		return command_fail(
			c, COMMAND_FAILED, "with --json read at most %u bytes at once", MAX_JSON);
	return read_as_json(c, offset, (size_t)length);
}

/* ---- write and fill ---- */

enum command_status command_write(struct client *c, int n, char **words)
{
	uint64_t offset;
	(void)n;
	enum command_status status = get_bytes(c, words[1], "offset", &offset);
	if (status != COMMAND_OK)
		return status;
	long length = input_data(words[2]);
	if (length < 0)
		return command_fail(c, COMMAND_MISUSED,
			"give pairs of hexadecimal digits, or text in double quotes (in a shell: "
			"'write 0 \"text\"')");
	status = check_range(c, offset, (uint64_t)length);
	if (status == COMMAND_OK)
		status = write_region(c, offset, words[2], (size_t)length);
	if (status == COMMAND_OK)
		command_result(c, json_pack("{s:I}", "written", (json_int_t)length));
	return status;
}

enum command_status command_fill(struct client *c, int n, char **words)
{
	uint64_t offset, length, value;
	(void)n;
	enum command_status status = get_range(c, words, &offset, &length);
	if (status != COMMAND_OK)
		return status;
	if (input_bytes(words[3], &value) < 0 || value > 0xff)
		return command_fail(c, COMMAND_MISUSED,
			"'%s' is no byte; give a number from 0 to 255 or 0xff", words[3]);

	unsigned char chunk[CHUNK];
	memset(chunk, (int)value, sizeof(chunk));
	command_result(c, json_pack("{s:I}", "written", (json_int_t)length));
	while (length > 0 && status == COMMAND_OK) {
		size_t part = length < CHUNK ? (size_t)length : CHUNK;
		status = write_region(c, offset, chunk, part);
		offset += part;
		length -= part;
	}
	return status;
}
