/* SPDX-License-Identifier: MIT */
/*
 * keeper-worker SOCKET MODE-FILE [READY-FD] - what ivshmem-keeper is tested with: a server that may
 * be killed between any two instructions.
 *
 * Each client of the Unix socket (SOCK_SEQPACKET) has a number and three eventfds, whose counters
 * say whose they are and in which order they belong. All of it is kept. A request is a word, which
 * is sent back with the answer:
 *
 *     ANYTHING    "ANYTHING PID NUMBER COUNTER COUNTER COUNTER"
 *     names       "names NAME NAME...", all that is kept
 *     full        "full N ERROR": keep as much as possible
 *     empty       "empty": let go of that
 *     exit        exits with status 3
 *
 * MODE-FILE says how a worker behaves that starts now; it is removed. See run_mode().
 */
#include "daemon/keep.h"
#include "daemon/keeper_protocol.h"

#include "base/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define VECTORS     3
#define MAX_CLIENTS 1000
#define LISTENER    "listen.t"
#define BOX         "s.t" /* prefix of the clients' sockets */

struct client {
	uint64_t number;
	int sock; /* -1: none */
	int vectors[VECTORS];
};

static struct client clients[MAX_CLIENTS];
static size_t n_clients;
static uint64_t next_number;
static struct keep *keep;
static int status = -1;
static sigset_t while_waiting; /* then SIGTERM comes, and not just before */

static void print_log(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	fprintf(stderr, "worker: %s\n", line);
}

static _Noreturn void die(const char *what, int error)
{
	fprintf(stderr, "worker: %s: %s\n", what, strerror(error));
	exit(4);
}

static int number_in(const char *text)
{
	return text ? (int)strtol(text, NULL, 10) : -1;
}

static char *name_of(const char *prefix, uint64_t number)
{
	static char name[64];
	snprintf(name, sizeof(name), "%s.%" PRIu64, prefix, number);
	return name;
}

/* ---- clients ---- */

static void add_client(uint64_t number, int sock)
{
	struct client *client = &clients[n_clients++];

	*client = (struct client){.number = number, .sock = sock};
	if (number >= next_number)
		next_number = number + 1;
	int n = keep_take(keep, name_of("v.t", number), client->vectors, VECTORS);
	if (n == VECTORS)
		return;
	if (n != 0)
		die("vectors", -n);
	for (unsigned i = 0; i < VECTORS; i++)
		client->vectors[i] = eventfd((unsigned)number * 10 + i, EFD_CLOEXEC);
	int error = keep_put(keep, name_of("v.t", number), client->vectors, VECTORS);
	if (error < 0)
		die("put", -error);
}

static void remove_client(size_t index)
{
	struct client *client = &clients[index];

	keep_drop(keep, name_of("v.t", client->number));
	keep_drop(keep, name_of(BOX, client->number));
	close(client->sock);
	for (unsigned i = 0; i < VECTORS; i++)
		close(client->vectors[i]);
	*client = clients[--n_clients];
}

static unsigned long counter_of(int fd)
{
	static const char key[] = "eventfd-count:";
	char path[64], line[128];
	unsigned long counter = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *info = fopen(path, "re");
	while (info && fgets(line, sizeof(line), info))
		if (strncmp(line, key, strlen(key)) == 0)
			counter = strtoul(line + strlen(key), NULL, 16);
	if (info)
		fclose(info);
	return counter;
}

/* ---- requests ---- */

static size_t say_names(char *out, size_t size)
{
	size_t used = (size_t)snprintf(out, size, "names " LISTENER);
	for (size_t i = 0; i < n_clients && used + 64 < size; i++) {
		used += (size_t)snprintf(
			out + used, size - used, " %s", name_of(BOX, clients[i].number));
		used += (size_t)snprintf(
			out + used, size - used, " %s", name_of("v.t", clients[i].number));
	}
	return used;
}

static size_t say_full(char *out, size_t size)
{
	unsigned n = 0;
	int fd = eventfd(0, EFD_CLOEXEC), error;

	while ((error = keep_put(keep, name_of("x", n), &fd, 1)) == 0)
		n++;
	close(fd);
	return (size_t)snprintf(out, size, "full %u %d", n, -error);
}

static size_t say_empty(char *out, size_t size)
{
	for (unsigned i = 0; i < 100000; i++)
		keep_drop(keep, name_of("x", i));
	return (size_t)snprintf(out, size, "empty");
}

static bool answer(const struct client *client, const char *request)
{
	static char text[65536];
	size_t used;

	if (strcmp(request, "names") == 0) {
		used = say_names(text, sizeof(text));
	} else if (strcmp(request, "full") == 0) {
		used = say_full(text, sizeof(text));
	} else if (strcmp(request, "empty") == 0) {
		used = say_empty(text, sizeof(text));
	} else if (strcmp(request, "exit") == 0) {
		status = 3;
		return true;
	} else {
		used = (size_t)snprintf(text, sizeof(text), "%s %d %" PRIu64 " %lu %lu %lu",
			request, (int)getpid(), client->number, counter_of(client->vectors[0]),
			counter_of(client->vectors[1]), counter_of(client->vectors[2]));
	}
	return send(client->sock, text, used, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static void serve_client(size_t index)
{
	char request[64];
	ssize_t got = recv(clients[index].sock, request, sizeof(request) - 1, MSG_DONTWAIT);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got > 0) {
		request[got] = '\0';
		if (answer(&clients[index], request))
			return;
	}
	remove_client(index);
}

/* ---- start and loop ---- */

static void listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock;

	if (keep_take(keep, LISTENER, &sock, 1) == 1) {
		close(sock); /* the keeper accepts */
		return;
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (bind(sock, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(sock, 128) < 0)
		die(path, errno);
	int error = keep_put(keep, LISTENER, &sock, 1);
	if (error < 0)
		die("listener", -error);
	close(sock);
}

static bool note_number(void *data, const char *name, size_t n)
{
	uint64_t *numbers = data;
	(void)n;
	if (strncmp(name, BOX ".", strlen(BOX ".")) == 0)
		numbers[n_clients++] = strtoull(name + strlen(BOX "."), NULL, 10);
	return n_clients < MAX_CLIENTS;
}

static void take_clients(void)
{
	static uint64_t numbers[MAX_CLIENTS];
	int sock;

	keep_visit(keep, note_number, numbers);
	size_t n = n_clients;
	n_clients = 0;
	for (size_t i = 0; i < n; i++)
		if (keep_take(keep, name_of(BOX, numbers[i]), &sock, 1) == 1)
			add_client(numbers[i], sock);
}

static void take_accepted(void)
{
	char listener[KEEP_NAME_SIZE];
	uint64_t number;
	int sock, result;

	while ((result = keep_accepted(keep, listener, &number, &sock)) > 0) {
		if (strcmp(listener, LISTENER) != 0)
			die(listener, EINVAL);
		add_client(number, sock);
	}
	if (result < 0)
		die("keeper", -result);
}

static void on_term(int signal)
{
	(void)signal;
	status = 0;
}

static void turn(void)
{
	static struct pollfd polls[1 + MAX_CLIENTS];
	size_t n = n_clients;

	polls[0] = (struct pollfd){.fd = keep_get_fd(keep), .events = POLLIN};
	for (size_t i = 0; i < n; i++)
		polls[1 + i] = (struct pollfd){.fd = clients[i].sock, .events = POLLIN};
	if (ppoll(polls, 1 + n, NULL, &while_waiting) < 0)
		return;
	for (size_t i = n; i-- > 0;)
		if (polls[1 + i].revents)
			serve_client(i);
	if (polls[0].revents)
		take_accepted();
}

/* ---- modes ---- */

static void send_raw(int sock, unsigned op, const char *name, size_t size, int fd)
{
	struct keeper_message m = {.op = op, .version = KEEPER_VERSION, .prefix = "raw"};
	snprintf(m.name, sizeof(m.name), "%s", name);
	while (fdpass_send(sock, &m, size, fd) == -EAGAIN) {
		struct pollfd entry = {.fd = sock, .events = POLLOUT};
		poll(&entry, 1, -1);
	}
}

/* What a worker should not do; only with the keeper's socket in the environment. */
static void misbehave(const char *mode)
{
	int sock = number_in(getenv(KEEPER_VARIABLE));
	size_t size = sizeof(struct keeper_message);

	if (strcmp(mode, "op") == 0)
		send_raw(sock, 99, "x", size, -1);
	else if (strcmp(mode, "short") == 0)
		send_raw(sock, KEEPER_DROP, "x", size - 1, -1);
	else if (strcmp(mode, "no-descriptor") == 0)
		send_raw(sock, KEEPER_PUT, "x", size, -1);
	else if (strcmp(mode, "descriptor") == 0)
		send_raw(sock, KEEPER_DROP, "x", size, 0);
	else if (strcmp(mode, "nameless") == 0)
		send_raw(sock, KEEPER_PUT, "", size, 0);
	else if (strcmp(mode, "twice") == 0)
		send_raw(sock, KEEPER_PUT, LISTENER, size, 0);
	else if (strcmp(mode, "stranger") == 0)
		send_raw(sock, KEEPER_ACCEPT, "nobody", size, -1);
	else if (strcmp(mode, "hang-up") == 0)
		close(sock);
	else if (strcmp(mode, "no-listener") == 0) {
		send_raw(sock, KEEPER_PUT, "null", size, 0);
		send_raw(sock, KEEPER_ACCEPT, "null", size, -1);
	} else if (strcmp(mode, "flood") == 0)
		for (unsigned i = 0; i < 1000000; i++)
			send_raw(sock, KEEPER_PUT, name_of("flood", i), size, 0);
	pause();
}

static void run_mode(const char *path)
{
	char mode[64] = "";

	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t got = read(fd, mode, sizeof(mode) - 1);
	close(fd);
	mode[got > 0 ? got : 0] = '\0';
	unlink(path);
	if (strncmp(mode, "exit ", 5) == 0)
		exit(number_in(mode + 5));
	else if (strcmp(mode, "stop") == 0)
		raise(SIGSTOP);
	else if (strcmp(mode, "segv") == 0)
		raise(SIGSEGV);
	else
		misbehave(mode);
}

int main(int argc, char **argv)
{
	struct log log = {.level = LOG_LEVEL_DEBUG, .sink = print_log};
	struct sigaction term = {.sa_handler = on_term};

	sigaction(SIGTERM, &term, NULL);
	run_mode(argv[2]);
	int error = keep_open(&keep, &log);
	if (error < 0)
		die("keep", -error);
	listen_at(argv[1]);
	take_clients();
	error = keep_accept(keep, LISTENER, BOX, next_number);
	if (error < 0)
		die("accept", -error);
	keep_ready(keep);
	int ready_fd = number_in(argc > 3 ? argv[3] : NULL);
	if (ready_fd >= 0 && (write(ready_fd, "\n", 1) != 1 || close(ready_fd) < 0))
		die("ready", errno);
	sigset_t end;
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigprocmask(SIG_BLOCK, &end, &while_waiting);
	sigdelset(&while_waiting, SIGTERM); /* the keeper has blocked it */
	while (status < 0)
		turn();
	keep_close(keep);
	return status;
}
