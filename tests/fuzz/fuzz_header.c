/* SPDX-License-Identifier: MIT */
/*
 * The region's header: what is taken for one has a name that can be a file's and a line's of a log,
 * a UUID and a generation; the same bytes say the same; one that is refused leaves nothing behind.
 *
 * Input: first byte: bit 0: make it add up. Then the page, the rest of which is 0.
 */
#include "region/header.h"

#include "base/parse.h"

#include "../common/headerpage.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_identity(const struct region_identity *identity)
{
	if (!memchr(identity->name, '\0', sizeof(identity->name)) ||
		!name_is_valid(identity->name) || uuid_is_nil(identity->uuid) ||
		identity->generation == 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(4096) uint8_t page[HEADER_PAGE];
	struct region_identity found, again, before;

	memset(&found, 0x5a, sizeof(found));
	again = before = found;
	memset(page, 0, sizeof(page));
	if (size > 1)
		memcpy(page, data + 1, size - 1 < sizeof(page) ? size - 1 : sizeof(page));
	if (size > 0 && data[0] & 1)
		header_seal(page);
	int err = region_header_read(page, &found);
	if (err != region_header_read(page, &again) || memcmp(&found, &again, sizeof(found)) != 0)
		abort();
	if (err == 0)
		check_identity(&found);
	else if (memcmp(&found, &before, sizeof(found)) != 0)
		abort();
	return 0;
}
