/* SPDX-License-Identifier: MIT */
/* What `top` shows: regions and peers at one moment, and what has happened since the one before. */
#ifndef TOOLS_CTL_SAMPLE_H
#define TOOLS_CTL_SAMPLE_H

#include "ctl.h"

struct sample {
	int64_t time;    /* milliseconds since 1970 */
	json_t *regions; /* as the server shows them, and: joins_per_s, leaves_per_s,
			    messages_per_s (absent in the first sample), queued */
	json_t *peers;   /* these and regions have, too: doorbells_seen, if there was one since the
			    first sample, and doorbells_per_s, if there was one since the last */
	json_t *rings;   /* doorbells_seen by peer and by region */
};

#define SAMPLE_INIT                                                                                \
	{                                                                                          \
		.time = 0                                                                          \
	}

/* Replace `sample` by what is now. An exit code; what went wrong has been said. */
int sample_take(struct ctl *ctl, struct sample *sample);
void sample_fini(struct sample *sample);

#endif
