/* SPDX-License-Identifier: MIT */
#include "screen.h"

#include "common/jsontext.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* A line for each sample, until the server is gone or nobody reads. */
static int print_samples(struct ctl *ctl)
{
	struct sample sample = SAMPLE_INIT;
	int result;

	while ((result = sample_take(ctl, &sample)) == 0 && !ferror(stdout)) {
		json_print_line(json_pack("{s:I, s:O, s:O}", "time", (json_int_t)sample.time,
					"regions", sample.regions, "peers", sample.peers),
			stdout);
		poll(NULL, 0, ctl->interval_ms);
	}
	sample_fini(&sample);
	return result;
}

int command_top(struct ctl *ctl, int n, char **arguments)
{
	(void)n;
	(void)arguments;
	if (ctl->json)
		return print_samples(ctl);
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		fprintf(stderr, CTL_PROGRAM ": top needs a terminal; with --json it does not\n");
		return EXIT_FAILED;
	}
	return screen_run(ctl);
}
