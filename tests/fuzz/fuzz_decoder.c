/* SPDX-License-Identifier: MIT */
/*
 * The decoder: whatever the bytes and however they are cut, it asks for what completes one message
 * and no more, a complete message re-encodes to its bytes, and no descriptor is lost or doubled.
 *
 * Input: first byte: bit 0 generation, bit 1 big-endian, bit 2 width 4. Then pairs of (cut, flags)
 * interleaved with data: each step takes a length 1..8 and whether a descriptor comes with it.
 */
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	struct wire_format format = {
		.width = data[0] & 4 ? 4 : 8,
		.big_endian = data[0] & 2,
		.has_version = data[0] & 1,
	};
	struct wire_decoder decoder;
	uint8_t current[WIRE_WIDTH_MAX];
	size_t have = 0;
	int next_fd = 100, pending = -1;

	wire_decoder_init(&decoder, &format);
	for (size_t at = 1; at + 1 < size;) {
		size_t want = wire_decoder_want(&decoder);
		if (want == 0 || want > format.width || want != format.width - have)
			abort();
		size_t length = 1 + data[at] % want;
		int fd = data[at] & 0x80 ? next_fd++ : -1;
		at++;
		if (length > size - at)
			break;
		struct wire_message message;
		switch (wire_decoder_push(&decoder, data + at, length, fd, &message)) {
		case WIRE_PUSH_SURPLUS_FD:
			if (fd < 0 || pending < 0 || wire_decoder_abandon(&decoder) != pending)
				abort();
			return 0;
		case WIRE_PUSH_MORE:
			memcpy(current + have, data + at, length);
			have += length;
			if (have >= format.width)
				abort();
			pending = fd >= 0 ? fd : pending;
			break;
		case WIRE_PUSH_MESSAGE: {
			uint8_t again[WIRE_WIDTH_MAX];
			memcpy(current + have, data + at, length);
			pending = fd >= 0 ? fd : pending;
			if (have + length != format.width || message.fd != pending ||
				wire_encode(&format, message.number, again) != format.width ||
				memcmp(again, current, format.width) != 0)
				abort();
			have = 0;
			pending = -1;
			break;
		}
		}
		at += length;
	}
	if (wire_decoder_abandon(&decoder) != pending)
		abort();
	return 0;
}
