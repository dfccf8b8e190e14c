/* SPDX-License-Identifier: MIT */
/* One of each, as functions: what a stream and a latest value take of a firmware's flash. */
#include <ivshmem/latest.h>
#include <ivshmem/stream.h>

#ifdef WRITER
void attach(struct ivshmem_writer *writer, const struct ivshmem_stream *stream, uint32_t id);
int send(struct ivshmem_writer *writer, const void *bytes, uint32_t size, uint32_t tag);

void attach(struct ivshmem_writer *writer, const struct ivshmem_stream *stream, uint32_t id)
{
	ivshmem_writer_attach(writer, stream, id, 0);
}

/* With what is to be done before sleeping. */
int send(struct ivshmem_writer *writer, const void *bytes, uint32_t size, uint32_t tag)
{
	const int result = ivshmem_stream_write(writer, bytes, size, tag);

	if (result == IVSHMEM_STREAM_FULL)
		ivshmem_writer_arm(writer, size);
	return result;
}
#endif

#ifdef READER
void attach(struct ivshmem_reader *reader, const struct ivshmem_stream *stream, uint32_t id);
int32_t receive(struct ivshmem_reader *reader, void *bytes, uint32_t room, uint32_t *tag);

void attach(struct ivshmem_reader *reader, const struct ivshmem_stream *stream, uint32_t id)
{
	ivshmem_reader_attach(reader, stream, id, 0, 0);
}

int32_t receive(struct ivshmem_reader *reader, void *bytes, uint32_t room, uint32_t *tag)
{
	const int32_t size = ivshmem_stream_read(reader, bytes, room, tag);

	if (size == IVSHMEM_STREAM_EMPTY)
		ivshmem_reader_arm(reader);
	return size;
}
#endif

#ifdef SETTER
int attach(struct ivshmem_latest_writer *writer, const struct ivshmem_channel *channel, void *at);
int set(struct ivshmem_latest_writer *writer, const void *bytes, uint32_t size, uint32_t tag);

int attach(struct ivshmem_latest_writer *writer, const struct ivshmem_channel *channel, void *at)
{
	return ivshmem_latest_writer_attach(writer, channel, at, 0, IVSHMEM_ID_NOBODY);
}

int set(struct ivshmem_latest_writer *writer, const void *bytes, uint32_t size, uint32_t tag)
{
	return ivshmem_latest_write(writer, bytes, size, tag);
}
#endif

#ifdef GETTER
int attach(struct ivshmem_latest_reader *reader, const struct ivshmem_channel *channel, void *at);
int32_t get(struct ivshmem_latest_reader *reader, void *bytes, uint32_t room, uint32_t *tag);

int attach(struct ivshmem_latest_reader *reader, const struct ivshmem_channel *channel, void *at)
{
	return ivshmem_latest_reader_attach(reader, channel, at, 0, 0);
}

int32_t get(struct ivshmem_latest_reader *reader, void *bytes, uint32_t room, uint32_t *tag)
{
	return ivshmem_latest_next(reader, bytes, room, tag);
}
#endif

#ifdef FIND
int find(void *memory, uint32_t size, const char *name, struct ivshmem_stream *stream);

int find(void *memory, uint32_t size, const char *name, struct ivshmem_stream *stream)
{
	struct ivshmem_channel channel;
	const int result =
		ivshmem_channel_find(memory, size, IVSHMEM_CHANNELS_OFFSET, name, &channel);

	return result == 0 ? ivshmem_channel_lane(&channel, memory, 0, stream) : result;
}
#endif
