/* SPDX-License-Identifier: MIT */
#include "metrics.h"

#include "metrics_file.h"
#include "metrics_http.h"

#include "base/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct metrics {
	struct exposition exposition;
	struct metrics_http *http;
	struct metrics_file *file;
};

/* ---- addresses ---- */

static bool parse_port(const char *text, in_port_t *port)
{
	uint64_t value;
	if (parse_uint(text, 0, UINT16_MAX, &value) < 0)
		return false;
	*port = htons((uint16_t)value);
	return true;
}

static void set_ipv4(struct sockaddr_storage *address, struct in_addr host, in_port_t port)
{
	*(struct sockaddr_in *)address =
		(struct sockaddr_in){.sin_family = AF_INET, .sin_addr = host, .sin_port = port};
}

static void set_ipv6(struct sockaddr_storage *address, struct in6_addr host, in_port_t port)
{
	*(struct sockaddr_in6 *)address = (struct sockaddr_in6){
		.sin6_family = AF_INET6, .sin6_addr = host, .sin6_port = port};
}

int metrics_parse_address(
	const char *text, struct sockaddr_storage addresses[METRICS_MAX_ADDRESSES])
{
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	struct in_addr ipv4 = {.s_addr = htonl(INADDR_LOOPBACK)};
	struct in6_addr ipv6;
	in_port_t port;

	if (!parse_port(colon ? colon + 1 : text, &port))
		return -EINVAL;
	if (!colon) {
		set_ipv4(&addresses[0], ipv4, port);
		set_ipv6(&addresses[1], in6addr_loopback, port);
		return 2;
	}
	size_t n = (size_t)(colon - text);
	if (n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = '\0';
	if (inet_pton(AF_INET, host, &ipv4) == 1) {
		set_ipv4(&addresses[0], ipv4, port);
		return 1;
	}
	if (n < 2 || host[0] != '[' || host[n - 1] != ']')
		return -EINVAL;
	host[n - 1] = '\0';
	if (inet_pton(AF_INET6, host + 1, &ipv6) != 1)
		return -EINVAL;
	set_ipv6(&addresses[0], ipv6, port);
	return 1;
}

/* ---- beginning and end ---- */

static int start_http(struct metrics *metrics, const char *text, uv_loop_t *loop, struct log *log)
{
	struct sockaddr_storage addresses[METRICS_MAX_ADDRESSES];
	int n = metrics_parse_address(text, addresses);
	if (n < 0)
		return n; /* the command line has been looked at before */
	return metrics_http_start(
		&metrics->http, &metrics->exposition, addresses, (unsigned)n, text, loop, log);
}

int metrics_start(struct metrics **out, const struct metrics_config *config, struct hub *hub,
	uv_loop_t *loop, struct log *log)
{
	*out = NULL;
	if (!config->address && !config->file)
		return 0;
	struct metrics *metrics = calloc(1, sizeof(*metrics));
	if (!metrics)
		return -ENOMEM;
	exposition_init(&metrics->exposition, hub, config->peers);
	int error = 0;
	if (config->address)
		error = start_http(metrics, config->address, loop, log);
	if (error == 0 && config->file)
		error = metrics_file_start(&metrics->file, &metrics->exposition, config->file,
			config->interval_ms, loop, log);
	if (error < 0) {
		metrics_stop(metrics);
		return error;
	}
	*out = metrics;
	return 0;
}

void metrics_stop(struct metrics *metrics)
{
	if (!metrics)
		return;
	metrics_http_stop(metrics->http);
	metrics_file_stop(metrics->file);
	exposition_fini(&metrics->exposition);
	free(metrics);
}
