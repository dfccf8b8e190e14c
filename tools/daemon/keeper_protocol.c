/* SPDX-License-Identifier: MIT */
#include "daemon/keeper_protocol.h"

#include "base/fdpass.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int keeper_receive(int sock, bool wait, struct keeper_message *m, int *fd)
{
	int fds[FDPASS_RECV_MAX] = {0};
	size_t n = 0;
	ssize_t got;

	/* Who dies without having read everything leaves an error, which comes before what it has
	 * sent. It comes once. */
	do {
		got = (wait ? fdpass_await : fdpass_recv)(sock, m, sizeof(*m), fds, &n);
	} while (got == -ECONNRESET);
	if (got == sizeof(*m) && m->version == KEEPER_VERSION && n <= 1 &&
		memchr(m->name, 0, sizeof(m->name)) && memchr(m->prefix, 0, sizeof(m->prefix))) {
		*fd = n ? fds[0] : -1;
		return 1;
	}
	while (n > 0)
		close(fds[--n]);
	return got < 0 ? (int)got : got == 0 ? 0 : -EPROTO;
}
