/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/view.h - read the messages of a stream where they are, without a copy, instead of by
 * <ivshmem/stream.h>: for those who trust the writer and everybody else in the region, or who check
 * the data while they use it, or need not.
 *
 *     size = ivshmem_viewer_peek(&viewer, &place, &tag);
 *     if (size >= 0) {
 *             ...                                     // what is there may change meanwhile
 *             ivshmem_viewer_done(&viewer);
 *     }
 *
 * It can only be attached to a lane, never made of a reader, so a function that takes a struct
 * ivshmem_reader does not get one of these by accident. Where the message lies and how long it is
 * has been checked as for everybody.
 */
#ifndef IVSHMEM_VIEW_H
#define IVSHMEM_VIEW_H

#include <ivshmem/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ivshmem_viewer {
	struct ivshmem_reader reader;
};

/* As ivshmem_reader_attach(). 0, or -1 where messages can be overwritten while they are read. */
static inline int ivshmem_viewer_attach(struct ivshmem_viewer *viewer,
	const struct ivshmem_stream *stream, uint32_t id, uint32_t vector, int anew)
{
	if (stream->policy == IVSHMEM_CHANNEL_OVERWRITE)
		return -1;
	ivshmem_reader_attach(&viewer->reader, stream, id, vector, anew);
	return 0;
}

/* The next message where it is, until ivshmem_viewer_done(); as ivshmem_stream_read() otherwise.
 * *place is a multiple of 8. */
static inline int32_t ivshmem_viewer_peek(
	struct ivshmem_viewer *viewer, const volatile void **place, uint32_t *tag)
{
	const volatile uint32_t *record = ivshmem_stream_record(&viewer->reader.end, 0);
	const int32_t size = ivshmem_stream_next(&viewer->reader, &record);

	if (size < 0)
		return size;
	if (tag != NULL)
		*tag = ivshmem_channel_get(record + 1);
	*place = record + 2;
	return size;
}

/* The writer may have the room of the message that was looked at. */
static inline void ivshmem_viewer_done(struct ivshmem_viewer *viewer)
{
	ivshmem_stream_step(&viewer->reader);
	viewer->reader.lines = 0; /* done once */
}

#ifdef __cplusplus
}
#endif

#endif
