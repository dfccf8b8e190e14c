/* SPDX-License-Identifier: MIT */
/* Kept state that is damaged, foreign or newer: refused as a whole, with the field in question, and
 * nothing is touched. No byte of it, whatever it is changed to, brings the server down. */
#include "../common/serverbox.h"

#include "../common/fdcheck.h"
#include "../common/idleops.h"

#include "server/kept_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define VECTORS 2
#define PEERS   5

/* Five peers, of whom the third is stuck in the middle, the fourth has gone and not everybody
 * knows, and the batch that told the first two of the fifth is in flight. */
static struct box *make_box(struct kept_state *state)
{
	struct box *box = box_create(
		&(struct server_config){.vectors = VECTORS, .max_peers = 8, .in_flight_limit = 16});
	assert_non_null(box);
	assert_int_equal(box_keep(box), 0);
	for (unsigned c = 0; c < PEERS; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_run(box);
	for (unsigned c = 0; c < PEERS; c++) {
		while (c != 2 && box_read(box, c, 100) > 0)
			box_run(box);
	}
	box_disconnect(box, 1);
	box_run(box);
	box_halt(box);
	kept_lay_out(state, box->kept, kept_slots(&box->config));
	assert_int_equal(state->header->slots_used, PEERS);
	return box;
}

/* As if it had been killed right after the kernel had taken one message of two. */
static void put_batch_in_flight(const struct kept_state *state)
{
	struct kept_journal *journal = &state->header->journal;
	const unsigned reader = 0, member = 4;
	struct fdpass_batch *batch = fdpass_batch_create();

	assert_non_null(batch);
	fdpass_batch_set_headers(batch, state->headers);
	kept_set_bit(kept_row(state, reader), member, false);
	for (unsigned i = 0; i < VECTORS; i++) {
		const struct kept_step step = {
			.kind = KEPT_CONNECT, .member = member, .index = i, .greeted = true};
		journal->steps[i] = kept_step_pack(&step);
		fdpass_batch_add(batch, "12345678", 8, -1);
	}
	uint32_t length = 8;
	memcpy((char *)state->headers + offsetof(struct mmsghdr, msg_len), &length, sizeof(length));
	journal->sent = state->records[reader].sent - 1;
	journal->messages = state->header->messages - 1;
	journal->batch = (uint64_t)VECTORS << 32 | (reader + 1);
	fdpass_batch_destroy(batch);
}

/*
 * Refusals
 */

struct damage {
	void *at;
	size_t size; /* of the number there */
	uint64_t value;
	int error;
	const char *field;
};

static void expect_refusal(struct box *box, const struct damage *damage)
{
	uint64_t before = 0, still = 0;
	char reason[160];

	memcpy(&before, damage->at, damage->size);
	memcpy(damage->at, &damage->value, damage->size);
	int error = box_resume(box, reason);
	if (error != damage->error || !strstr(reason, damage->field))
		fail_msg("%s = %#llx: %d, %s", damage->field, (unsigned long long)damage->value,
			error, error < 0 ? reason : "accepted");
	box_halt(box);
	memcpy(&still, damage->at, damage->size);
	assert_true(still == damage->value); /* nothing has been put right */
	memcpy(damage->at, &before, damage->size);
}

#define AT(object) &(object), sizeof(object)

static void test_each_field_is_named(void **unused)
{
	(void)unused;
	struct kept_state state;
	struct box *box = make_box(&state);
	struct kept_header *header = state.header;
	struct kept_record *record = state.records;
	char reason[160];

	put_batch_in_flight(&state);
	const struct damage damages[] = {
		{AT(header->magic[0]), 'x', -EPROTO, "magic"},
		{AT(header->version), 0, -EPROTO, "version"},
		{AT(header->version), 2, -EOPNOTSUPP, "version 2"},
		{AT(header->ending), 1, -ESHUTDOWN, "ending"},
		{AT(header->ending), 7, -EPROTO, "ending"},
		{AT(header->size), header->size - 1, -EPROTO, "size"},
		{AT(header->slots), 0, -EPROTO, "slots"},
		{AT(header->slots), 65537, -EPROTO, "slots"},
		{AT(header->slots), header->slots * 2, -EPROTO, "size"},
		{AT(header->record_size), 8, -EPROTO, "record_size"},
		{AT(header->row_size), 0, -EPROTO, "row_size"},
		{AT(header->headers_size), 0, -EPROTO, "headers_size"},
		{AT(header->vectors), 3, -EINVAL, "vectors"},
		{AT(header->width), 4, -EINVAL, "width"},
		{AT(header->big_endian), 1, -EINVAL, "big_endian"},
		{AT(header->has_version), 0, -EINVAL, "has_version"},
		{AT(header->slots_used), 1u << 20, -EPROTO, "slots_used"},
		{AT(header->ids_used), 65537, -EPROTO, "ids_used"},
		{AT(header->joins), UINT64_MAX, -EPROTO, "joins"},
		{AT(header->leaves), INT64_MAX, -EPROTO, "leaves"},
		{AT(header->last_serial), UINT64_MAX, -EPROTO, "last_serial"},
		{AT(header->accepting), UINT64_MAX, -EPROTO, "accepting"},
		{AT(header->journal.batch), 1, -EPROTO, "batch"},
		{AT(header->journal.batch), UINT64_C(65) << 32 | 1, -EPROTO, "batch"},
		{AT(header->journal.batch), UINT64_C(1) << 32 | 2, -EPROTO, "batch"},
		{AT(header->journal.batch), UINT64_C(1) << 32 | 77, -EPROTO, "batch"},
		{AT(header->journal.steps[1]), UINT64_MAX, -EPROTO, "step 1"},
		{AT(header->journal.steps[0]), 0, -EPROTO, "step 0"},
		{(char *)state.headers + offsetof(struct mmsghdr, msg_len), 4, 9, -EPROTO,
			"length 0"},
		{(char *)state.headers + offsetof(struct mmsghdr, msg_len), 4, 0, -EPROTO,
			"length 0"},
		{AT(state.left_at[3]), 1000, -EPROTO, "left_at of ID 3"},
		{AT(record[0].serial), 1000, -EPROTO, "slot 0, serial"},
		{AT(record[0].serial), record[2].serial, -EPROTO, "serial: two"},
		{AT(record[0].joined), 1000, -EPROTO, "slot 0, joined"},
		{AT(record[1].joined), 0, -EPROTO, "slot 1, joined"},
		{AT(record[1].left), 1, -EPROTO, "slot 1, joined or left"},
		{AT(record[3].id), 4, -EPROTO, "slot 4, id"},
		{AT(record[3].id), 5, -EPROTO, "slot 3, id"},
		{AT(record[3].read_only), 2, -EPROTO, "slot 3, read_only"},
		{AT(record[3].rule), UINT32_MAX - 1, -EPROTO, "slot 3, rule"},
		{AT(record[2].progress), UINT64_MAX, -EPROTO, "slot 2, progress"},
		{AT(record[2].progress), 3, -EPROTO, "slot 2, progress"},
		{AT(kept_row(&state, 2)[0]), UINT64_MAX, -EPROTO, "slot 2, row"},
	};
	for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++)
		expect_refusal(box, &damages[i]);

	/* And after all of that: */
	assert_int_equal(box_resume(box, reason), 0);
	box->clients[0].vectors[4]--; /* which the batch says that it has not been told yet */
	box->clients[0].others--;
	box_settle(box);
	for (unsigned c = 0; c < PEERS; c++) {
		assert_null(box->clients[c].violation);
		assert_true(c == 1 || box_sees_everyone(box, c));
	}
	box_destroy(box);
}

static void test_descriptors_that_do_not_fit(void **unused)
{
	(void)unused;
	struct kept_state state;
	struct box *box = make_box(&state);
	char reason[160];
	struct kept_descriptors *set = box->held;

	while (set->kind != SERVER_KEPT_VECTORS || set->serial != 4)
		set++;
	set->n--;
	assert_int_equal(box_resume(box, reason), -EPROTO);
	assert_non_null(strstr(reason, "serial 4: 1 vectors"));
	box_halt(box);
	set->n++;
	set->serial = 5;
	assert_int_equal(box_resume(box, reason), -EPROTO);
	assert_non_null(strstr(reason, "serial 5: its vectors are held twice"));
	box_halt(box);
	set->serial = 4000;
	assert_int_equal(box_resume(box, reason), -EPROTO);
	assert_non_null(strstr(reason, "serial 4: 0 vectors"));
	box_halt(box);
	set->serial = 0;
	assert_int_equal(box_resume(box, reason), -EPROTO);
	box_halt(box);
	set->serial = 4;
	assert_int_equal(box_resume(box, reason), 0);
	box_destroy(box);
}

static void test_other_memory(void **unused)
{
	(void)unused;
	struct kept_state state;
	struct box *box = make_box(&state);
	char reason[160];

	box->config.vectors = 7;
	assert_int_equal(box_resume(box, reason), -EINVAL);
	box_halt(box);
	box->config.vectors = VECTORS;
	box->kept_size -= 4096;
	assert_int_equal(box_resume(box, reason), -EPROTO);
	box_halt(box);
	box->kept_size = 10;
	assert_int_equal(box_resume(box, reason), -EPROTO);
	box_halt(box);
	box->kept_size = kept_size(&box->config);
	box->config.max_peers = 3; /* more are in than may come: they stay */
	assert_int_equal(box_resume(box, reason), 0);
	assert_int_equal(box_connect(box, 9), -EUSERS);
	box_destroy(box);
}

/*
 * Any byte
 */

/* Somebody else's sockets and eventfds in place of those of the peers, which live on. */
struct stand_in {
	struct kept_descriptors sets[2 * PEERS];
	int fds[2 * PEERS][VECTORS];
	int ends[PEERS];
	unsigned n;
};

static void make_stand_in(struct stand_in *stand_in)
{
	stand_in->n = 0;
	for (unsigned i = 0; i < PEERS; i++) {
		int pair[2], *fds = stand_in->fds[stand_in->n];
		assert_int_equal(
			socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			0);
		stand_in->ends[i] = pair[0];
		fds[0] = pair[1];
		stand_in->sets[stand_in->n++] = (struct kept_descriptors){
			.kind = SERVER_KEPT_SOCKET, .serial = i + 1, .fds = fds, .n = 1};
		fds = stand_in->fds[stand_in->n];
		for (unsigned v = 0; v < VECTORS; v++)
			fds[v] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		stand_in->sets[stand_in->n++] = (struct kept_descriptors){
			.kind = SERVER_KEPT_VECTORS, .serial = i + 1, .fds = fds, .n = VECTORS};
	}
}

/* Take over, serve everybody as far as they go, let one in; or refuse. Was it accepted? */
static bool try_it(const struct box *box)
{
	struct stand_in stand_in;
	struct server *server;
	char reason[160] = "";
	int pair[2];

	make_stand_in(&stand_in);
	assert_int_equal(
		server_create(&server, &box->config, box->region_fd, &idle_ops, NULL, NULL), 0);
	int error =
		kept_resume(server, box->kept, box->kept_size, stand_in.sets, stand_in.n, reason);
	if (error < 0) {
		assert_true(reason[0] != '\0');
		for (unsigned i = 0; i < stand_in.n; i++) {
			for (unsigned j = 0; j < stand_in.sets[i].n; j++)
				assert_int_equal(close(stand_in.sets[i].fds[j]), 0);
		}
	} else {
		server_run(server, 1000);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
		(void)server_admit(server, pair[0], 0);
		close(stand_in.ends[0]);
		stand_in.ends[0] = pair[1];
		server_run(server, 2000);
	}
	server_destroy(server);
	for (unsigned i = 0; i < PEERS; i++)
		close(stand_in.ends[i]);
	return error == 0;
}

/* One byte of a text, or of a set of vectors, is like the next. */
static bool is_like_the_one_before(const struct kept_state *state, const uint8_t *at)
{
	const uint8_t *records = (const uint8_t *)state->records;
	size_t offset = (size_t)(at - records) % sizeof(*state->records);

	return at >= records && at < (const uint8_t *)state->rows &&
		offset > offsetof(struct kept_record, rings) &&
		offset != offsetof(struct kept_record, texts);
}

static void test_any_byte_may_be_wrong(void **unused)
{
	(void)unused;
	struct kept_state state;
	struct box *box = make_box(&state);
	const uint8_t patterns[] = {0xff, 0x01, 0x80};
	unsigned accepted = 0, refused = 0;

	put_batch_in_flight(&state);
	/* The rest of the memory is zero, and a hole. */
	const struct {
		void *at;
		size_t size;
	} parts[] = {
		{state.header, sizeof(*state.header)},
		{state.headers, VECTORS * sizeof(struct mmsghdr)},
		{state.left_at, PEERS * sizeof(*state.left_at)},
		{state.records, (PEERS + 1) * sizeof(*state.records)},
		{state.rows, (PEERS + 1) * state.row_words * sizeof(*state.rows)},
	};
	size_t size = (size_t)((char *)state.rows - (char *)box->kept) + parts[4].size;
	uint8_t *saved = malloc(size);
	assert_non_null(saved);
	memcpy(saved, box->kept, size);
	assert_true(try_it(box));
	for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++) {
		size_t start = (size_t)((char *)parts[p].at - (char *)box->kept);
		for (size_t i = 0; i < parts[p].size * sizeof(patterns); i++) {
			uint8_t *at = (uint8_t *)box->kept + start + i / sizeof(patterns);
			if (is_like_the_one_before(&state, at))
				continue;
			for (size_t q = 0; q < sizeof(parts) / sizeof(parts[0]); q++) {
				size_t from = (size_t)((char *)parts[q].at - (char *)box->kept);
				memcpy(parts[q].at, saved + from, parts[q].size);
			}
			*at ^= patterns[i % sizeof(patterns)];
			if (try_it(box))
				accepted++;
			else
				refused++;
		}
	}
	free(saved);
	assert_true(accepted > 0 && refused > 0);
	print_message("%u accepted, %u refused\n", accepted, refused);
	box_destroy(box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_field_is_named),
		TEST(test_descriptors_that_do_not_fit),
		TEST(test_other_memory),
		TEST(test_any_byte_may_be_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
