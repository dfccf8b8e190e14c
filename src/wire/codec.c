/* SPDX-License-Identifier: MIT */
#include "wire/wire.h"

#include "base/le.h"

#include <string.h>

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define HOST_BIG_ENDIAN true
#else
#define HOST_BIG_ENDIAN false
#endif

const struct wire_format wire_current = {.width = 8, .big_endian = false, .has_version = true};
const struct wire_format wire_pre_2_5 = {
	.width = sizeof(long), .big_endian = HOST_BIG_ENDIAN, .has_version = false};

size_t wire_encode(const struct wire_format *format, int64_t number, uint8_t out[WIRE_WIDTH_MAX])
{
	if (format->big_endian)
		store_be(out, format->width, (uint64_t)number);
	else
		store_le(out, format->width, (uint64_t)number);
	return format->width;
}

static int64_t decode(const struct wire_format *format, const uint8_t *bytes)
{
	uint64_t value =
		format->big_endian ? load_be(bytes, format->width) : load_le(bytes, format->width);
	/* A 4-byte number is signed too. */
	return format->width == 4 ? (int32_t)(uint32_t)value : (int64_t)value;
}

void wire_decoder_init(struct wire_decoder *decoder, const struct wire_format *format)
{
	*decoder = (struct wire_decoder){.format = *format, .fd = -1};
}

size_t wire_decoder_want(const struct wire_decoder *decoder)
{
	return (size_t)decoder->format.width - decoder->have;
}

enum wire_push wire_decoder_push(struct wire_decoder *decoder, const uint8_t *bytes, size_t size,
	int fd, struct wire_message *message)
{
	if (fd >= 0 && decoder->fd >= 0)
		return WIRE_PUSH_SURPLUS_FD;
	if (fd >= 0)
		decoder->fd = fd;
	memcpy(decoder->bytes + decoder->have, bytes, size);
	decoder->have = (uint8_t)(decoder->have + size);
	if (decoder->have < decoder->format.width)
		return WIRE_PUSH_MORE;

	message->number = decode(&decoder->format, decoder->bytes);
	message->fd = decoder->fd;
	decoder->have = 0;
	decoder->fd = -1;
	return WIRE_PUSH_MESSAGE;
}

int wire_decoder_abandon(struct wire_decoder *decoder)
{
	int fd = decoder->fd;
	decoder->have = 0;
	decoder->fd = -1;
	return fd;
}
