/* SPDX-License-Identifier: MIT */
/*
 * A firmware's file that anybody may have made: each byte that is to be loaded is a byte of the
 * file, and has an address of 32 bits.
 *
 * Input: the file.
 */
#include "../../tools/board/image.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_segment(const struct image_segment *segment, const uint8_t *data, size_t size)
{
	const size_t offset = (size_t)(segment->bytes - data);

	if (segment->size == 0 || offset > size || segment->size > size - offset ||
		segment->address + (uint64_t)segment->size > UINT32_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image_segment segment;
	struct image image;

	if (image_open(&image, data, size))
		return 0;
	if (image.n_headers == 0)
		abort();
	for (unsigned i = 0; i < image.n_headers; i++)
		if (image_segment(&image, i, &segment))
			check_segment(&segment, data, size);
	return 0;
}
