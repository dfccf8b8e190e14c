/* SPDX-License-Identifier: MIT */
/*
 * What a server says that something captured was, as ivshmctl makes a record and a packet of it.
 * Whatever it says: the record is within its bounds, its texts are where its lengths say, and the
 * packet is a block of the right length.
 *
 * Input: an event as JSON.
 */
#include "../../tools/ctl/pcapng.h"
#include "../../tools/ctl/record.h"

#include "base/le.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_packet(const uint8_t *record, size_t size)
{
	char *bytes = NULL;
	size_t written = 0;
	FILE *out = open_memstream(&bytes, &written);
	if (!out)
		abort();
	pcapng_packet(out, size, record, size);
	fclose(out);
	const uint8_t *block = (const uint8_t *)bytes;
	if (written % 4 != 0 || load_le(block + 4, 4) != written ||
		load_le(block + written - 4, 4) != written || load_le(block + 20, 4) != size ||
		memcmp(block + 28, record, size) != 0)
		abort();
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t record[RECORD_MAX + 1];
	json_t *event = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);

	record[RECORD_MAX] = 0xa5;
	size_t used = record_encode(event, record);
	if (used > RECORD_MAX || record[RECORD_MAX] != 0xa5)
		abort();
	if (used > 0) {
		size_t texts = record[36] + load_le(record + 38, 2);
		if (used != RECORD_FIXED + texts || record[0] != 1 || record[1] == 0)
			abort();
		check_packet(record, used);
	}
	json_decref(event);
	return 0;
}
