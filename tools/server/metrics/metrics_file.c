/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. The disk may be slow, and nobody who joins must wait for it: so libuv's
 * threads write, a piece at a time, and pieces are made on the loop in between. The file is written
 * beside its place and then moved there; who reads it gets the old one or the new one. There is one
 * request at a time; its callback does what comes next. If the time has come again before a file is
 * complete, that turn is left out.
 */
#include "metrics_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (16u << 10) /* bytes: some 100 us to make */

enum stage { RESTING, OPENING, WRITING, CLOSING, MOVING };

struct metrics_file {
	const struct exposition *exposition;
	const char *path; /* borrowed */
	char new_path[PATH_MAX];
	struct log *log;
	uv_loop_t *loop;
	uv_timer_t timer;
	uv_fs_t request;
	enum stage stage;
	struct exposition_reader *reader;
	int fd; /* -1: none */
	char piece[PIECE];
	size_t length, written; /* of the piece */
	int error;              /* of this turn */
	bool in_trouble;        /* and has said so */
	bool stopping, timer_closed;
};

static void go_on(uv_fs_t *request);

/* ---- the end of a turn, and of all ---- */

static void free_if_over(struct metrics_file *file)
{
	if (file->timer_closed && file->stage == RESTING)
		free(file);
}

static void timer_closed(uv_handle_t *handle)
{
	struct metrics_file *file = handle->data;
	file->timer_closed = true;
	free_if_over(file);
}

static void rest(struct metrics_file *file)
{
	exposition_close(file->reader);
	file->reader = NULL;
	file->stage = RESTING;
	if (file->error < 0)
		(void)unlink(file->new_path);
	if (file->stopping) {
		(void)unlink(file->path);
		free_if_over(file);
		return;
	}
	/* Once for as long as it lasts. */
	if (file->error < 0 && !file->in_trouble)
		log_warning(file->log, "cannot write %s: %s", file->path, strerror(-file->error));
	file->in_trouble = file->error < 0;
}

/* ---- a turn ---- */

/* A request that could not even be made has no callback. */
static void made(struct metrics_file *file, int error)
{
	if (error == 0)
		return;
	file->error = error;
	rest(file);
}

static void close_file(struct metrics_file *file, int error)
{
	file->error = error;
	file->stage = CLOSING;
	uv_fs_close(file->loop, &file->request, file->fd, go_on);
	file->fd = -1;
}

static void write_on(struct metrics_file *file)
{
	if (file->written == file->length) {
		file->length = file->stopping
			? 0
			: exposition_read(file->reader, file->piece, sizeof(file->piece));
		file->written = 0;
	}
	if (file->length == 0) {
		close_file(file, file->stopping ? -ECANCELED : 0);
		return;
	}
	uv_buf_t rest_of_piece =
		uv_buf_init(file->piece + file->written, (unsigned)(file->length - file->written));
	file->stage = WRITING;
	uv_fs_write(file->loop, &file->request, file->fd, &rest_of_piece, 1, -1, go_on);
}

static void go_on(uv_fs_t *request)
{
	struct metrics_file *file = request->data;
	int result = (int)request->result;

	uv_fs_req_cleanup(request);
	switch (file->stage) {
	case RESTING:
		break;
	case OPENING:
		file->fd = result;
		file->error = result;
		if (result < 0)
			rest(file);
		else
			write_on(file);
		break;
	case WRITING:
		if (result < 0) {
			close_file(file, result);
		} else {
			file->written += (size_t)result;
			write_on(file);
		}
		break;
	case CLOSING:
		if (file->error == 0)
			file->error = result;
		if (file->error < 0) {
			rest(file);
		} else {
			file->stage = MOVING;
			made(file,
				uv_fs_rename(file->loop, &file->request, file->new_path, file->path,
					go_on));
		}
		break;
	case MOVING:
		file->error = result;
		rest(file);
		break;
	}
}

static void begin(uv_timer_t *timer)
{
	struct metrics_file *file = timer->data;

	if (file->stage != RESTING)
		return;
	file->error = 0;
	file->length = file->written = 0;
	file->reader = exposition_open(file->exposition, OPENMETRICS_TEXTFILE);
	if (!file->reader) {
		made(file, -ENOMEM);
		return;
	}
	file->stage = OPENING;
	made(file,
		uv_fs_open(file->loop, &file->request, file->new_path,
			O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644, go_on));
}

int metrics_file_start(struct metrics_file **out, const struct exposition *exposition,
	const char *path, unsigned interval_ms, uv_loop_t *loop, struct log *log)
{
	struct metrics_file *file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->exposition = exposition;
	file->path = path;
	file->loop = loop;
	file->log = log;
	file->fd = -1;
	file->request.data = file;
	int n = snprintf(file->new_path, sizeof(file->new_path), "%s.new", path);
	if (n >= (int)sizeof(file->new_path)) {
		log_error(log, "--metrics-file: the path is too long");
		free(file);
		return -ENAMETOOLONG;
	}
	uv_timer_init(loop, &file->timer);
	file->timer.data = file;
	uv_timer_start(&file->timer, begin, 0, interval_ms);
	*out = file;
	return 0;
}

void metrics_file_stop(struct metrics_file *file)
{
	if (!file)
		return;
	file->stopping = true;
	uv_close((uv_handle_t *)&file->timer, timer_closed);
	if (file->stage == RESTING)
		(void)unlink(file->path);
}
