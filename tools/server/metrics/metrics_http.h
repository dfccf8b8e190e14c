/* SPDX-License-Identifier: MIT */
/* metrics_http - GET /metrics, by libmicrohttpd on our loop. */
#ifndef TOOLS_SERVER_METRICS_METRICS_HTTP_H
#define TOOLS_SERVER_METRICS_METRICS_HTTP_H

#include "exposition.h"

#include <errno.h>
#include <sys/socket.h>
#include <uv.h>

struct metrics_http;

#ifdef METRICS_HTTP
/* 0, or -errno after having said on `log` what is wrong. `text` is what the addresses were given
 * as, for messages. */
int metrics_http_start(struct metrics_http **out, const struct exposition *exposition,
	const struct sockaddr_storage *addresses, unsigned n, const char *text, uv_loop_t *loop,
	struct log *log);
void metrics_http_stop(struct metrics_http *http); /* NULL is fine */

#else
static inline int metrics_http_start(struct metrics_http **out, const struct exposition *exposition,
	const struct sockaddr_storage *addresses, unsigned n, const char *text, uv_loop_t *loop,
	struct log *log)
{
	(void)out;
	(void)exposition;
	(void)addresses;
	(void)n;
	(void)loop;
	log_error(log, "--metrics %s: this server was built without HTTP; --metrics-file works",
		text);
	return -ENOTSUP;
}

static inline void metrics_http_stop(struct metrics_http *http)
{
	(void)http;
}
#endif

#endif
