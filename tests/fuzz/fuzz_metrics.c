/* SPDX-License-Identifier: MIT */
/*
 * Bytes of an HTTP client through metrics_http.c and libmicrohttpd. Whatever comes, and in whatever
 * pieces: the connection has one answer at most, and once all has been said there is nothing more
 * to do for it; another client gets its page meanwhile, whole and with the lines that it always
 * has, whatever the region's name is; and of a client that has gone nothing is left. (When a client
 * goes that says nothing more is a matter of a timer: test_metrics.py.)
 *
 * Theory of operation. A socket pair takes the place of TCP, handed over as if it had just been
 * accepted: so the code under test is all there is between the bytes and the page, and no ports run
 * out at thousands of connections a second. The file itself is included, for its accepted().
 *
 * Input: a byte that says how many pieces there are, and whether the client reads before it has
 * said all; the name of a region, up to the first zero; what is on the wire.
 */
#include "../../tools/server/metrics/metrics_http.c" /* NOLINT(bugprone-suspicious-include) */

#include "../common/fakehub.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BYTES  (64u << 10)
#define MAX_ANSWER (64u << 10)
#define TURNS      2000 /* of the loop, until all that was said must have been answered */

static const char page_end[] = "\n# EOF\n";

struct fixture {
	uv_loop_t loop;
	struct log log;
	struct hub *hub;
	struct hosted *region;
	struct exposition exposition;
	struct metrics_http *http;
	unsigned lines; /* of each page */
};

struct visitor {
	int sock;
	const uint8_t *bytes;
	size_t left; /* to be sent */
	char answer[MAX_ANSWER + 1];
	size_t size;
	bool silent, over; /* it has said all; the server has closed */
};

static void no_log(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	(void)line;
}

/* ---- a client ---- */

static void visit(struct fixture *fixture, struct visitor *visitor, const void *bytes, size_t size)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	*visitor = (struct visitor){.sock = pair[0], .bytes = bytes, .left = size};
	accepted(fixture->http, pair[1]);
}

static void say(struct visitor *visitor, size_t piece)
{
	if (visitor->silent)
		return;
	ssize_t sent = send(visitor->sock, visitor->bytes,
		visitor->left < piece ? visitor->left : piece, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN)
		visitor->left = 0; /* it has ended the connection, which it may */
	if (sent > 0) {
		visitor->bytes += sent;
		visitor->left -= (size_t)sent;
	}
	visitor->silent = visitor->left == 0;
}

static void hear(struct visitor *visitor)
{
	ssize_t got;

	while ((got = recv(visitor->sock, visitor->answer + visitor->size,
			MAX_ANSWER - visitor->size, 0)) > 0)
		visitor->size += (size_t)got;
	if (visitor->size == MAX_ANSWER)
		abort(); /* more than any page of this hub's */
	visitor->over |= got == 0 || errno != EAGAIN;
	visitor->answer[visitor->size] = '\0';
}

/* ---- answers ---- */

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;
	while ((text = strstr(text, what)) != NULL) {
		text += strlen(what);
		n++;
	}
	return n;
}

/* One at most, of which nothing can be said but that: chunks may part any line of a page. */
static void check_answer(const struct visitor *visitor)
{
	const char *text = visitor->answer;

	if (strlen(text) != visitor->size ||
		(visitor->size > 0 && strncmp(text, "HTTP/1.", 7) != 0))
		abort();
	if (count(text, "\r\nContent-Type: ") > 1)
		abort();
}

/* The page of a client whom we know, so without chunks. */
static void check_page(const struct fixture *fixture, const struct visitor *visitor)
{
	const char *body = strstr(visitor->answer, "\r\n\r\n");

	check_answer(visitor);
	if (!body || !strstr(visitor->answer, OPENMETRICS_CONTENT_TYPE))
		abort();
	if (visitor->size < strlen(page_end) ||
		strcmp(visitor->answer + visitor->size - strlen(page_end), page_end) != 0)
		abort();
	if (fixture->lines > 0 && count(body + 4, "\n") != fixture->lines)
		abort();
}

/* ---- one input ---- */

/* A server whose region is called as the input says. */
static void begin(struct fixture *fixture)
{
	fixture->log = (struct log){.level = LOG_LEVEL_ERROR, .sink = no_log};
	fixture->hub = fakehub_create();
	fixture->region = fakehub_add(fixture->hub, "a");
	fakehub_set_peers(fixture->region, 3);
	exposition_init(&fixture->exposition, fixture->hub, true);
	if (uv_loop_init(&fixture->loop) < 0 ||
		metrics_http_start(&fixture->http, &fixture->exposition, NULL, 0, "",
			&fixture->loop, &fixture->log) < 0)
		abort();
}

static unsigned clients(const struct fixture *fixture)
{
	unsigned n = 0;
	for (unsigned i = 0; i < MAX_CLIENTS; i++)
		n += fixture->http->clients[i].used;
	return n;
}

static void turn_loop(struct fixture *fixture, unsigned *turns)
{
	if (++*turns > TURNS)
		abort(); /* it is never done */
	uv_run(&fixture->loop, UV_RUN_NOWAIT);
}

static bool is_at_work(const struct fixture *fixture)
{
	return uv_is_active((const uv_handle_t *)&fixture->http->busy) != 0;
}

/* Both to the end of what they have to say and are told. */
static void run(struct fixture *fixture, struct visitor *stranger, size_t piece, bool patient)
{
	static const char request[] = "GET /metrics HTTP/1.0\r\n\r\n";
	static struct visitor known;
	unsigned turns = 0;

	say(stranger, piece);
	turn_loop(fixture, &turns);
	visit(fixture, &known, request, strlen(request));
	while (!known.over || !stranger->silent || is_at_work(fixture)) {
		say(stranger, piece);
		say(&known, SIZE_MAX);
		turn_loop(fixture, &turns);
		if (!patient || stranger->silent)
			hear(stranger);
		hear(&known);
	}
	(void)shutdown(stranger->sock, SHUT_WR); /* which is the end of what it may have begun */
	do {
		turn_loop(fixture, &turns);
		hear(stranger);
	} while (is_at_work(fixture));
	close(known.sock);
	check_page(fixture, &known);
	if (fixture->lines == 0)
		fixture->lines = count(strstr(known.answer, "\r\n\r\n") + 4, "\n");
	close(stranger->sock);
	check_answer(stranger);
	while (clients(fixture) > 0)
		turn_loop(fixture, &turns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fixture fixture;
	static struct visitor stranger;

	if (size < 2 || size > MAX_BYTES)
		return 0;
	if (!fixture.http) {
		begin(&fixture);
		visit(&fixture, &stranger, "", 0);
		run(&fixture, &stranger, 1, false); /* to see how many lines a page has */
	}
	const uint8_t *zero = memchr(data + 1, 0, size - 1);
	size_t length = zero ? (size_t)(zero - data) - 1 : 0;
	snprintf(fixture.region->spec.name, sizeof(fixture.region->spec.name), "a%.*s",
		length < 60 ? (int)length : 60, (const char *)data + 1);
	size_t used = zero ? length + 2 : 1;
	size_t pieces = 1 + (data[0] & 0x7f); /* so many, or a byte each if there are fewer */

	visit(&fixture, &stranger, data + used, size - used);
	run(&fixture, &stranger, 1 + (size - used) / pieces, (data[0] & 0x80) != 0);
	return 0;
}
