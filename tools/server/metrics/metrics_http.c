/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * libmicrohttpd parses and answers, without a thread: its epoll set is watched as one more
 * descriptor, and whenever something is to be done there, it gets one turn, in which each
 * connection makes one step. A page is made a piece a step (exposition.c), so a turn is short, and
 * what peers want comes before the next one.
 *
 * Connections are taken by our own acceptor, which knows what to do when descriptors run out:
 * libmicrohttpd would try again at once, for ever. Each answers one request and is over after
 * CLIENT_MS, whatever it does. If there are enough of them and one more comes, another has to go:
 * of the address that has the most, the one that has done nothing for the longest time. So whoever
 * hoards them takes them from himself, and the monitoring system gets its page. Only who is at work
 * is not cut for a newcomer from his own address, or the two would take turns for ever. Rejected: a
 * limit for each address, since on loopback both have the same one.
 */
#include "metrics_http.h"

#include "base/clock.h"
#include "daemon/acceptor.h"
#include "daemon/watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENOUGH_CLIENTS 8
#define MAX_CLIENTS    16 /* with those that have to go and are not gone yet */
#define CLIENT_MS      30000
#define AT_WORK_MS     1000
#define CLIENT_MEMORY  (8u << 10) /* for its request, and for a piece of the page */
#define PIECE          (2u << 10) /* of the page: some 20 us */
#define MAX_LISTENERS  2
#define BACKLOG        16

struct client {
	bool used, cut;
	int sock; /* libmicrohttpd's */
	struct in6_addr host;
	uint64_t progress; /* when it last did something */
	uint64_t deadline;
};

/* The answer to a request. */
struct page {
	struct client *client;
	struct exposition_reader *reader;
};

struct http_listener {
	int fd; /* -1: none */
	struct acceptor acceptor;
};

struct metrics_http {
	const struct exposition *exposition;
	struct log *log;
	uv_loop_t *loop;
	struct http_listener listeners[MAX_LISTENERS];
	unsigned n_listeners;
	struct MHD_Daemon *daemon;
	struct MHD_Response *not_found, *not_allowed;
	uv_poll_t events;
	uv_idle_t busy;      /* while it has more to do without an event */
	uv_timer_t deadline; /* of a connection */
	unsigned handles;    /* that are not closed yet */
	struct client clients[MAX_CLIENTS];
};

/* ---- turns ---- */

/* Its events come here, too, so that there is one turn between two looks at what peers want. A
 * timer of no milliseconds would not do: libuv runs it again before it looks at anything else. */
static void turn(uv_idle_t *idle)
{
	struct metrics_http *http = idle->data;
	MHD_UNSIGNED_LONG_LONG timeout; /* always 0: there are no others than for what is ready */

	MHD_run(http->daemon);
	if (MHD_get_timeout(http->daemon, &timeout) != MHD_YES)
		uv_idle_stop(&http->busy);
}

static void daemon_event(uv_poll_t *poll, int status, int events)
{
	struct metrics_http *http = poll->data;
	(void)status; /* an error shows there, too */
	(void)events;
	uv_idle_start(&http->busy, turn);
}

/* ---- connections ---- */

static struct in6_addr host_of(const struct sockaddr *address)
{
	struct in6_addr host = IN6ADDR_ANY_INIT;

	if (address->sa_family == AF_INET6)
		host = ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
	else if (address->sa_family == AF_INET)
		memcpy(&host, &((const struct sockaddr_in *)(const void *)address)->sin_addr,
			sizeof(struct in_addr));
	return host;
}

/* libmicrohttpd sees it end and closes it, in its next turn. */
static void cut(struct client *client)
{
	shutdown(client->sock, SHUT_RDWR);
	client->cut = true;
}

static void deadline_event(uv_timer_t *timer)
{
	struct metrics_http *http = timer->data;
	uint64_t now = clock_ms(), next = UINT64_MAX;

	for (unsigned i = 0; i < MAX_CLIENTS; i++) {
		struct client *client = &http->clients[i];
		if (!client->used || client->cut)
			continue;
		if (client->deadline <= now)
			cut(client);
		else if (client->deadline < next)
			next = client->deadline;
	}
	if (next != UINT64_MAX)
		uv_timer_start(&http->deadline, deadline_event, next - now, 0);
}

static struct client *begin_client(struct metrics_http *http, struct MHD_Connection *connection)
{
	struct client *client = http->clients;
	uint64_t now = clock_ms();

	while (client->used) /* libmicrohttpd keeps to the limit */
		client++;
	*client = (struct client){
		.used = true,
		.sock = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
				->connect_fd,
		.host = host_of(
			MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)
				->client_addr),
		.progress = now,
		.deadline = now + CLIENT_MS,
	};
	if (!uv_is_active((uv_handle_t *)&http->deadline))
		uv_timer_start(&http->deadline, deadline_event, CLIENT_MS, 0);
	return client;
}

static void connection_event(void *data, struct MHD_Connection *connection, void **of_connection,
	enum MHD_ConnectionNotificationCode code)
{
	struct client *client = *of_connection;

	switch (code) {
	case MHD_CONNECTION_NOTIFY_STARTED:
		*of_connection = begin_client(data, connection);
		break;
	case MHD_CONNECTION_NOTIFY_CLOSED:
		client->used = false;
		break;
	}
}

static unsigned count_of_host(const struct metrics_http *http, const struct in6_addr *host)
{
	unsigned n = 0;
	for (unsigned i = 0; i < MAX_CLIENTS; i++) {
		const struct client *client = &http->clients[i];
		n += client->used && !client->cut &&
			memcmp(&client->host, host, sizeof(*host)) == 0;
	}
	return n;
}

/* Who has to go if somebody has; *n: how many there are. */
static struct client *find_victim(struct metrics_http *http, unsigned *n)
{
	struct client *victim = NULL;
	unsigned most = 0;

	*n = 0;
	for (unsigned i = 0; i < MAX_CLIENTS; i++) {
		struct client *client = &http->clients[i];
		if (!client->used || client->cut)
			continue;
		++*n;
		unsigned count = count_of_host(http, &client->host);
		if (!victim || count > most ||
			(count == most && client->progress < victim->progress)) {
			victim = client;
			most = count;
		}
	}
	return victim;
}

/* False: there is none for one from this host. */
static bool make_room(struct metrics_http *http, const struct in6_addr *host)
{
	unsigned n;
	struct client *victim = find_victim(http, &n);

	if (!victim || n < ENOUGH_CLIENTS)
		return true;
	if (memcmp(&victim->host, host, sizeof(*host)) == 0 &&
		clock_ms() - victim->progress < AT_WORK_MS)
		return false;
	cut(victim);
	return true;
}

static void accepted(void *data, int sock)
{
	struct metrics_http *http = data;
	struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
	socklen_t size = sizeof(address);

	if (getpeername(sock, (struct sockaddr *)&address, &size) < 0)
		goto refuse;
	struct in6_addr host = host_of((struct sockaddr *)&address);
	if (!make_room(http, &host))
		goto refuse;
	/* Takes the socket over, also if it does not want it. */
	(void)MHD_add_connection(http->daemon, sock, (struct sockaddr *)&address, size);
	return;

refuse:
	close(sock);
}

/* ---- requests ---- */

static ssize_t read_page(void *data, uint64_t position, char *bytes, size_t size)
{
	struct page *page = data;
	(void)position;

	page->client->progress = clock_ms();
	size_t n = exposition_read(page->reader, bytes, size < PIECE ? size : PIECE);
	return n > 0 ? (ssize_t)n : MHD_CONTENT_READER_END_OF_STREAM;
}

static void free_page(void *data)
{
	struct page *page = data;
	exposition_close(page->reader);
	free(page);
}

/* NULL without memory. */
static struct MHD_Response *make_answer(
	const struct metrics_http *http, struct MHD_Connection *connection)
{
	struct page *page = calloc(1, sizeof(*page));
	if (!page)
		return NULL;
	page->client = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
			       ->socket_context;
	page->reader = exposition_open(http->exposition, OPENMETRICS_1_0);
	struct MHD_Response *answer = page->reader
		? MHD_create_response_from_callback(
			  MHD_SIZE_UNKNOWN, PIECE, read_page, page, free_page)
		: NULL;
	if (!answer) {
		free_page(page);
		return NULL;
	}
	MHD_add_response_header(answer, MHD_HTTP_HEADER_CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE);
	MHD_add_response_header(answer, MHD_HTTP_HEADER_CONNECTION, "close");
	return answer;
}

/* NOLINTBEGIN(readability-non-const-parameter): the signature is libmicrohttpd's. */
/* MHD_NO ends the connection. */
static enum MHD_Result handle(void *data, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_size,
	void **of_request)
{
	struct metrics_http *http = data;
	(void)version;
	(void)upload;
	(void)upload_size;
	(void)of_request;

	if (strcmp(url, "/metrics") != 0)
		return MHD_queue_response(connection, MHD_HTTP_NOT_FOUND, http->not_found);
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return MHD_queue_response(
			connection, MHD_HTTP_METHOD_NOT_ALLOWED, http->not_allowed);
	struct MHD_Response *answer = make_answer(http, connection);
	if (!answer)
		return MHD_NO;
	enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, answer);
	MHD_destroy_response(answer); /* once it has been sent */
	return result;
}
/* NOLINTEND(readability-non-const-parameter) */

static struct MHD_Response *make_refusal(char *text)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_PERSISTENT);
	if (response) {
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain");
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	}
	return response;
}

/* ---- listening ---- */

/* A descriptor or -errno. */
static int listen_on(const struct sockaddr_storage *address)
{
	const int on = 1;
	socklen_t size = address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
							: sizeof(struct sockaddr_in);
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)address, size) < 0 || listen(fd, BACKLOG) < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static void log_address(struct log *log, int fd)
{
	struct sockaddr_in6 ipv6 = {.sin6_family = AF_UNSPEC};
	socklen_t size = sizeof(ipv6);
	char host[INET6_ADDRSTRLEN];

	if (getsockname(fd, (struct sockaddr *)&ipv6, &size) < 0)
		return;
	bool is_ipv6 = ipv6.sin6_family == AF_INET6;
	const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)(const void *)&ipv6;
	inet_ntop(ipv6.sin6_family,
		is_ipv6 ? (const void *)&ipv6.sin6_addr : (const void *)&ipv4->sin_addr, host,
		sizeof(host));
	log_info(log, "metrics: http://%s%s%s:%u/metrics", is_ipv6 ? "[" : "", host,
		is_ipv6 ? "]" : "", ntohs(ipv6.sin6_port));
}

static int add_listener(struct metrics_http *http, const struct sockaddr_storage *address)
{
	struct http_listener *listener = &http->listeners[http->n_listeners];
	int fd = listen_on(address);
	if (fd < 0)
		return fd;
	int error = acceptor_init(&listener->acceptor, http->loop, fd, accepted, http, http->log);
	if (error < 0) {
		close(fd);
		return error;
	}
	listener->fd = fd;
	http->n_listeners++;
	http->handles += 2;
	acceptor_resume(&listener->acceptor);
	log_address(http->log, fd);
	return 0;
}

/* A host without IPv6 has one loopback address, and that will do. */
static int listen_on_all(struct metrics_http *http, const struct sockaddr_storage *addresses,
	unsigned n, const char *text)
{
	for (unsigned i = 0; i < n; i++) {
		int error = add_listener(http, &addresses[i]);
		if (error == 0 || (i > 0 && (error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT)))
			continue;
		log_error(
			http->log, "--metrics %s: cannot listen there: %s", text, strerror(-error));
		return error;
	}
	return 0;
}

/* ---- beginning and end ---- */

static int start_daemon(struct metrics_http *http)
{
	static char not_found[] = "There is /metrics and nothing else.\n";
	static char not_allowed[] = "This can be read and nothing else.\n";

	http->not_found = make_refusal(not_found);
	http->not_allowed = make_refusal(not_allowed);
	if (!http->not_found || !http->not_allowed)
		return -ENOMEM;
	MHD_add_response_header(http->not_allowed, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	http->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
		handle, http, MHD_OPTION_CONNECTION_LIMIT, MAX_CLIENTS,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CLIENT_MEMORY,
		MHD_OPTION_NOTIFY_CONNECTION, connection_event, http, MHD_OPTION_END);
	if (!http->daemon)
		return errno > 0 ? -errno : -ENOMEM;

	int fd = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	int error = uv_poll_init(http->loop, &http->events, fd);
	if (error < 0)
		return error;
	http->events.data = http;
	http->handles++;
	return watch_start(&http->events, UV_READABLE, daemon_event);
}

int metrics_http_start(struct metrics_http **out, const struct exposition *exposition,
	const struct sockaddr_storage *addresses, unsigned n, const char *text, uv_loop_t *loop,
	struct log *log)
{
	struct metrics_http *http = calloc(1, sizeof(*http));
	if (!http)
		return -ENOMEM;
	http->exposition = exposition;
	http->loop = loop;
	http->log = log;
	uv_idle_init(loop, &http->busy);
	uv_timer_init(loop, &http->deadline);
	http->busy.data = http->deadline.data = http;
	http->handles = 2;

	int error = start_daemon(http);
	if (error < 0)
		log_error(log, "--metrics %s: cannot start: %s", text, strerror(-error));
	else
		error = listen_on_all(http, addresses, n, text);
	if (error < 0) {
		metrics_http_stop(http);
		return error;
	}
	*out = http;
	return 0;
}

static void free_http(uv_handle_t *handle)
{
	struct metrics_http *http = handle->data;
	if (--http->handles == 0)
		free(http);
}

static void close_handle(struct metrics_http *http, void *handle)
{
	((uv_handle_t *)handle)->data = http;
	uv_close(handle, free_http);
}

void metrics_http_stop(struct metrics_http *http)
{
	if (!http)
		return;
	for (unsigned i = 0; i < http->n_listeners; i++) {
		struct http_listener *listener = &http->listeners[i];
		acceptor_stop(&listener->acceptor);
		close_handle(http, &listener->acceptor.poll);
		close_handle(http, &listener->acceptor.pause);
		close(listener->fd);
	}
	if (http->events.data)
		close_handle(http, &http->events);
	close_handle(http, &http->busy);
	close_handle(http, &http->deadline);
	if (http->daemon)
		MHD_stop_daemon(http->daemon);
	if (http->not_found)
		MHD_destroy_response(http->not_found);
	if (http->not_allowed)
		MHD_destroy_response(http->not_allowed);
}
