/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Not what was said is kept but what is true: a table of the descriptors of those who are there. So
 * it is as large as they need, however long they come and go, and what is told to the device after
 * a restart is what a server would tell a newcomer. Numbers ascend, so they are the order, too.
 *
 * A word is read into the memory itself, by recvmmsg() with its header there. The kernel notes in
 * msg_len how much it has taken off the connection, and nothing can happen to us in between; a note
 * of our own, after the call, would come too late if we are killed just then. `taking` says what
 * the note is about, before the call. `progress` says how far the word is, and is one word, so it
 * changes at once. A word that is whole stays until all that it means is in the table: to put it
 * there once more makes no difference.
 *
 * A peer's doorbells are counted, so after one that could not be kept none of its later ones can
 * be: it is cut, until it leaves. That bounds what a server can make us keep.
 */
#include "told.h"

#include "base/fdpass.h"
#include "base/le.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MAGIC     "ivshtold"
#define VERSION   1
#define PAGE      4096u
#define WORD_SIZE 8u
#define MAX_SLOTS (1u << 24)

/* Of `progress`: number of the descriptor << 8 | words of the opening << 4 | bytes. Of `taking`:
 * the same before the call, and this. 0: nothing is being taken. */
#define TAKING    (UINT64_C(1) << 63)
#define OPENING_1 (UINT64_C(1) << 4)
#define OPENING   2u /* words: version, own ID */

struct told_header {
	char magic[8]; /* written last */
	uint32_t version, slots;
	uint64_t size;
	uint32_t header_size; /* sizeof(struct told_header): the kernel's part differs */
	uint32_t used;        /* no entry from here on was ever touched */
	uint64_t next;        /* number of the next descriptor */
	uint64_t lost;        /* 1: the connection is of no use any more */
	uint64_t progress, taking;
	int64_t opening[OPENING];
	uint8_t word[WORD_SIZE];
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* of the server, with its zero */
	struct fdpass_note note;
};

_Static_assert(sizeof(struct told_header) <= PAGE, "the header is a page");

#define CUT_BYTES ((WIRE_MAX_ID + 1u) / 8)

/* Everything before it is written when this is, in whatever moment we are killed. */
static void commit(uint64_t *word, uint64_t value) /* NOLINT: it is written */
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static unsigned have_of(uint64_t progress)
{
	return progress & 15;
}

static unsigned opening_of(uint64_t progress)
{
	return progress >> 4 & 15;
}

static uint64_t number_of(uint64_t progress)
{
	return progress >> 8;
}

size_t told_size(unsigned slots)
{
	size_t entries = slots * sizeof(struct told_entry);
	return PAGE + CUT_BYTES + (entries + PAGE - 1) / PAGE * PAGE;
}

static void lay_out(struct told *told, void *memory)
{
	*told = (struct told){
		.header = memory,
		.cut = (uint64_t *)(void *)((char *)memory + PAGE),
		.entries = (struct told_entry *)(void *)((char *)memory + PAGE + CUT_BYTES),
	};
	/* The kernel's note must not fail for want of memory; see docs/restart.md. */
	(void)mlock(memory, PAGE);
}

void told_begin(struct told *told, void *memory, unsigned slots, const char *path)
{
	uint64_t magic;

	lay_out(told, memory);
	*told->header = (struct told_header){
		.version = VERSION,
		.slots = slots,
		.size = told_size(slots),
		.header_size = sizeof(struct told_header),
		.next = 1,
	};
	snprintf(told->header->path, sizeof(told->header->path), "%s", path);
	memcpy(&magic, MAGIC, sizeof(magic));
	commit((uint64_t *)(void *)told->header->magic, magic);
}

const char *told_path(const struct told *told)
{
	return told->header->path;
}

/* ---- the table ---- */

static bool is_cut(const struct told *told, int64_t id)
{
	return id >= 0 && told->cut[id / 64] >> (id % 64) & 1;
}

static void set_cut(struct told *told, uint16_t id, bool cut)
{
	uint64_t bit = UINT64_C(1) << (id % 64);
	uint64_t *word = &told->cut[id / 64];
	commit(word, cut ? *word | bit : *word & ~bit);
}

static bool is_there(const struct told *told, uint64_t number)
{
	for (uint32_t i = 0; i < told->header->used; i++) {
		if (told->entries[i].number == number)
			return true;
	}
	return false;
}

static bool has_region(const struct told *told)
{
	for (uint32_t i = 0; i < told->header->used; i++) {
		if (told->entries[i].number && told->entries[i].value == WIRE_REGION)
			return true;
	}
	return false;
}

/* A free entry, or NULL. */
static struct told_entry *find_free(struct told *told)
{
	struct told_header *header = told->header;

	while (told->hint < header->used && told->entries[told->hint].number)
		told->hint++;
	if (told->hint == header->slots)
		return NULL;
	if (told->hint == header->used)
		header->used++;
	return &told->entries[told->hint];
}

/* A descriptor has come. */
static bool add(struct told *told, int64_t value, uint64_t number)
{
	if (is_cut(told, value))
		return false;
	struct told_entry *entry = number == TOLD_UNKEPT ? NULL : find_free(told);
	if (!entry) {
		if (value >= 0)
			set_cut(told, (uint16_t)value, true);
		return false;
	}
	entry->value = value;
	commit(&entry->number, number);
	return true;
}

/* Peer `id` has left. What the holder has goes first: as long as the entry is there, it can be
 * found. */
static void remove_peer(
	struct told *told, int64_t id, void (*drop)(void *data, uint64_t number), void *data)
{
	for (uint32_t i = 0; i < told->header->used; i++) {
		struct told_entry *entry = &told->entries[i];
		if (entry->number == 0 || entry->value != id)
			continue;
		drop(data, entry->number);
		commit(&entry->number, 0);
		if (i < told->hint)
			told->hint = i;
	}
	set_cut(told, (uint16_t)id, false);
}

uint32_t told_entries(const struct told *told, const struct told_entry **entries)
{
	*entries = told->entries;
	return told->header->used;
}

/* ---- the word ---- */

unsigned told_have(const struct told *told)
{
	return have_of(told->header->progress);
}

uint64_t told_descriptor(const struct told *told)
{
	return number_of(told->header->progress);
}

uint64_t told_new_number(struct told *told)
{
	uint64_t number = told->header->next;
	commit(&told->header->next, number + 1);
	return number;
}

/* The kernel's note, if it is about something, becomes progress. */
static void settle(struct told_header *header)
{
	size_t taken;

	if (header->taking && fdpass_noted(&header->note, &taken))
		commit(&header->progress, (header->taking & ~TAKING) + taken);
	commit(&header->taking, 0);
}

ssize_t told_take(struct told *told, int sock, size_t n, uint64_t number)
{
	struct told_header *header = told->header;
	uint64_t before = header->progress;
	bool expected = number != number_of(before);

	fdpass_note_clear(&header->note);
	commit(&header->taking, TAKING | number << 8 | (before & 255));
	ssize_t taken = fdpass_take_noted(&header->note, sock, header->word + have_of(before), n);
	settle(header);
	bool came = taken > 0 && header->note.message.msg_hdr.msg_flags & MSG_CTRUNC;
	return came && !expected ? -EPROTO : taken;
}

int64_t told_word(const struct told *told)
{
	return (int64_t)load_le(told->header->word, WORD_SIZE);
}

bool told_act(struct told *told, void (*drop)(void *data, uint64_t number), void *data)
{
	struct told_header *header = told->header;
	uint64_t progress = header->progress, number = number_of(progress);
	unsigned opening = opening_of(progress);
	int64_t value = told_word(told);
	bool pass = true;

	if (opening < OPENING) {
		header->opening[opening] = value;
		commit(&header->progress, (opening + 1) * OPENING_1);
		return true;
	}
	if (number) {
		pass = add(told, value, number);
		if (!pass && number != TOLD_UNKEPT)
			drop(data, number);
	} else {
		remove_peer(told, value, drop, data);
	}
	commit(&header->progress, OPENING * OPENING_1);
	return pass;
}

/* ---- what has been said so far ---- */

unsigned told_opening(const struct told *told, int64_t words[2])
{
	memcpy(words, told->header->opening, sizeof(told->header->opening));
	return opening_of(told->header->progress);
}

void told_session(const struct told *told, struct wire_session *session)
{
	int64_t words[OPENING];
	unsigned n = told_opening(told, words);

	wire_session_init(session, &wire_current);
	for (unsigned i = 0; i < n; i++)
		wire_session_feed(session, &(struct wire_message){words[i], -1});
	if (has_region(told))
		wire_session_feed(session, &(struct wire_message){WIRE_REGION, 0});
}

bool told_lost(const struct told *told)
{
	return told->header->lost;
}

void told_set_lost(struct told *told)
{
	commit(&told->header->lost, 1);
}

/* ---- taking over ---- */

static int refuse(const char **field, const char *name)
{
	*field = name;
	return -EINVAL;
}

static bool is_number(const struct told_header *header, uint64_t number)
{
	return number > 0 && number < header->next;
}

static int check_header(const struct told_header *header, size_t size, const char **field)
{
	if (size < sizeof(*header) || memcmp(header->magic, MAGIC, sizeof(header->magic)) != 0)
		return refuse(field, "magic");
	if (header->version > VERSION) {
		*field = "version";
		return -ENOTSUP;
	}
	if (header->version != VERSION)
		return refuse(field, "version");
	if (header->slots == 0 || header->slots > MAX_SLOTS)
		return refuse(field, "slots");
	if (header->size > size || told_size(header->slots) != header->size)
		return refuse(field, "size");
	if (header->header_size != sizeof(*header))
		return refuse(field, "header_size");
	if (header->used > header->slots)
		return refuse(field, "used");
	if (header->next == 0 || header->next >= TOLD_UNKEPT)
		return refuse(field, "next");
	if (!memchr(header->path, 0, sizeof(header->path)))
		return refuse(field, "path");
	return header->lost > 1 ? refuse(field, "lost") : 0;
}

/* A word in the making; `taking` is looked at as what it was before the call. */
static int check_progress(
	const struct told_header *header, uint64_t progress, const char *name, const char **field)
{
	uint64_t number = number_of(progress);

	if (have_of(progress) > WORD_SIZE || opening_of(progress) > OPENING)
		return refuse(field, name);
	if (number && number != TOLD_UNKEPT && !is_number(header, number))
		return refuse(field, name);
	return 0;
}

static int check_word(const struct told_header *header, const char **field)
{
	uint64_t before = header->taking & ~TAKING;
	size_t taken;

	int error = check_progress(header, header->progress, "progress", field);
	if (error < 0 || header->taking == 0)
		return error;
	if (!(header->taking & TAKING))
		return refuse(field, "taking");
	error = check_progress(header, before, "taking", field);
	if (error == 0 && fdpass_noted(&header->note, &taken) &&
		taken > WORD_SIZE - have_of(before))
		return refuse(field, "msg_len");
	return error;
}

static int check_opening(const struct told_header *header, const char **field)
{
	unsigned n = opening_of(header->progress);

	if (n > 0 && header->opening[0] != WIRE_VERSION)
		return refuse(field, "opening: version");
	if (n > 1 && (header->opening[1] < 0 || header->opening[1] > WIRE_MAX_ID))
		return refuse(field, "opening: ID");
	return 0;
}

static int check_entries(const struct told *told, const char **field)
{
	const struct told_header *header = told->header;
	unsigned regions = 0, entries = 0;

	for (uint32_t i = 0; i < header->used; i++) {
		const struct told_entry *entry = &told->entries[i];
		if (entry->number == 0)
			continue;
		entries++;
		regions += entry->value == WIRE_REGION;
		if (!is_number(header, entry->number))
			return refuse(field, "entry: number");
		if (entry->value < WIRE_REGION || entry->value > WIRE_MAX_ID)
			return refuse(field, "entry: value");
	}
	if (regions > 1)
		return refuse(field, "entry: value: a second region");
	return entries > 0 && opening_of(header->progress) < OPENING ? refuse(field, "opening") : 0;
}

/* The word was whole when we were killed; what it means is in the table already, or not. */
static void finish_word(struct told *told, void (*drop)(void *data, uint64_t number), void *data)
{
	struct wire_session session;
	uint64_t number = told_descriptor(told);
	const struct wire_message message = {.number = told_word(told), .fd = number ? 0 : -1};

	if (number && is_there(told, number)) {
		commit(&told->header->progress, OPENING * OPENING_1);
		return;
	}
	told_session(told, &session);
	if (wire_session_feed(&session, &message).type == WIRE_EVENT_ERROR)
		told_set_lost(told);
	else
		told_act(told, drop, data);
}

int told_resume(struct told *told, void *memory, size_t size,
	void (*drop)(void *data, uint64_t number), void *data, const char **field)
{
	lay_out(told, memory);
	int error = check_header(told->header, size, field);
	if (error == 0)
		error = check_word(told->header, field);
	if (error == 0)
		error = check_opening(told->header, field);
	if (error == 0)
		error = check_entries(told, field);
	if (error < 0)
		return error;
	settle(told->header);
	if (told_have(told) == WORD_SIZE && !told_lost(told))
		finish_word(told, drop, data);
	return 0;
}
