/* SPDX-License-Identifier: MIT */
/* src/region/header: what is written is what docs/region.md says, and only a whole and true copy of
 * it is taken for a header. */
#include "region/header.h"

#include "../common/headerpage.h"
#include "../common/regiontest.h"
#include "region/guard.h"

#include <errno.h>
#include <pthread.h>

#define SIZE 65536
#define UUID "00112233-4455-6677-8899-aabbccddeeff"

static struct region_identity identity_of(const char *name, const char *uuid, uint32_t generation)
{
	struct region_identity identity = {.generation = generation};

	snprintf(identity.name, sizeof(identity.name), "%s", name);
	if (uuid)
		assert_int_equal(uuid_parse(uuid, identity.uuid), 0);
	return identity;
}

static struct region make_memfd(void)
{
	const struct region_config config = {
		.kind = REGION_MEMFD, .size = SIZE, .numa_node = REGION_NUMA_ANY};
	return create(&config);
}

static void write_header(const struct region *region, struct region_identity *identity)
{
	struct region_error error = {""};
	if (region_write_header(region, identity, &error) != 0)
		fail_msg("%s", error.text);
}

static void refuse_header(const struct region *region, const struct region_identity *identity,
	int expected, const char *one, const char *other)
{
	struct region_identity copy = *identity;
	struct region_error error = {""};

	assert_int_equal(region_write_header(region, &copy, &error), expected);
	assert_has(error.text, one);
	assert_has(error.text, other);
	assert_true(strlen(error.text) < sizeof(error.text) - 1);
	assert_memory_equal(&copy, identity, sizeof(copy));
}

static void read_page(const struct region *region, uint8_t page[HEADER_PAGE])
{
	assert_int_equal(pread(region->fd, page, HEADER_PAGE, 0), HEADER_PAGE);
}

static void write_page(const struct region *region, const uint8_t page[HEADER_PAGE])
{
	assert_int_equal(pwrite(region->fd, page, HEADER_PAGE, 0), HEADER_PAGE);
}

/* ---- the layout ---- */

static void test_layout(void **state)
{
	struct region region = make_memfd();
	struct region_identity identity = identity_of("frames", UUID, 6);
	uint8_t page[HEADER_PAGE + 1];
	const uint8_t expected[128] = {'i', 'v', 's', 'h', 1, 0, 0, 0, 0, 0x10, 0, 0, 0xef, 0x03,
		0x10, 0xba,                                     /* CHECK */
		7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, /* 64 KiB */
		0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
		0xee, 0xff, 0, 0x10, 0, 0, 0xc0, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* directory */
		'f', 'r', 'a', 'm', 'e', 's'};
	(void)state;

	assert_int_equal(pwrite(region.fd, "x", 1, HEADER_PAGE), 1);
	write_header(&region, &identity);
	assert_int_equal(identity.generation, 7);
	assert_int_equal(pread(region.fd, page, sizeof(page), 0), sizeof(page));
	assert_memory_equal(page, expected, sizeof(expected));
	for (unsigned i = sizeof(expected); i < HEADER_PAGE; i++)
		assert_int_equal(page[i], 0);
	assert_int_equal(page[HEADER_PAGE], 'x');
	region_fini(&region);
}

static void test_read_back(void **state)
{
	static const char longest[] =
		"abcdefghijklmnopqrstuvwxyz0123456789._-abcdefghijklmnopqrstuvwx";
	struct region region = make_memfd();
	struct region_identity identity = identity_of(longest, NULL, 0), found;
	uint8_t page[HEADER_PAGE];
	(void)state;

	assert_int_equal(strlen(longest), 63);
	write_header(&region, &identity);
	assert_false(uuid_is_nil(identity.uuid));
	assert_int_not_equal(identity.generation, 0);
	read_page(&region, page);
	assert_int_equal(region_header_read(page, &found), 0);
	assert_memory_equal(&found, &identity, sizeof(found));
	region_fini(&region);
}

/* ---- generations ---- */

static uint32_t after(uint32_t generation)
{
	return generation < UINT32_MAX ? generation + 1 : 1;
}

static void test_generations(void **state)
{
	struct region one = make_memfd(), other = make_memfd();
	struct region_identity first = identity_of("frames", UUID, 0), second = first;
	(void)state;

	/* New memory under an old name is noticed. */
	write_header(&one, &first);
	write_header(&other, &second);
	assert_int_not_equal(first.generation, second.generation);

	second = first;
	write_header(&one, &second);
	assert_int_equal(second.generation, after(first.generation));
	assert_memory_equal(second.uuid, first.uuid, UUID_SIZE);
	second.generation = UINT32_MAX;
	write_header(&one, &second);
	assert_int_equal(second.generation, 1);
	region_fini(&one);
	region_fini(&other);
}

/* ---- a file that was there before ---- */

static char folder[32], path[64];

static struct region open_file(void)
{
	const struct region_config config = {
		.kind = REGION_FILE, .name = path, .numa_node = REGION_NUMA_ANY};
	return create(&config);
}

static int file_setup(void **state)
{
	fdcheck_setup(state);
	snprintf(folder, sizeof(folder), "%s", make_directory());
	snprintf(path, sizeof(path), "%s/memory", folder);
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
	return 0;
}

static int file_teardown(void **state)
{
	remove_tree(folder);
	return fdcheck_teardown(state);
}

#define FILE_TEST(function) cmocka_unit_test_setup_teardown(function, file_setup, file_teardown)

/* Memory that only peers have written to since has no say in what it is. */
static void test_forged_meanwhile(void **state)
{
	struct region region = make_memfd();
	struct region_identity identity = identity_of("frames", UUID, 0);
	uint8_t page[HEADER_PAGE];
	(void)state;

	header_page(page, "another", 99);
	write_page(&region, page);
	write_header(&region, &identity); /* a memfd is never old */
	write_page(&region, page);
	uint32_t before = identity.generation;
	write_header(&region, &identity);
	assert_int_equal(identity.generation, after(before));
	region_fini(&region);

	region = open_file(); /* once it has been looked at */
	write_page(&region, page);
	write_header(&region, &identity);
	assert_int_equal(identity.generation, after(after(before)));
	region_fini(&region);
}

static void test_kept_by_file(void **state)
{
	struct region region = open_file();
	struct region_identity first = identity_of("frames", NULL, 0), second;
	(void)state;

	write_header(&region, &first);
	region_fini(&region);
	region = open_file();
	second = identity_of("frames", NULL, 0);
	write_header(&region, &second);
	assert_memory_equal(second.uuid, first.uuid, UUID_SIZE);
	assert_int_equal(second.generation, after(first.generation));

	/* The UUID of the configuration, if it is the same. */
	struct region_identity third = second;
	third.generation = 0;
	write_header(&region, &third);
	assert_int_equal(third.generation, after(second.generation));
	region_fini(&region);
}

static void test_other_regions_file(void **state)
{
	struct region region = open_file();
	struct region_identity identity = identity_of("frames", UUID, 0);
	uint8_t before[HEADER_PAGE], after[HEADER_PAGE];
	(void)state;

	write_header(&region, &identity);
	read_page(&region, before);
	identity = identity_of("sounds", UUID, 0);
	refuse_header(&region, &identity, -EEXIST, "'frames'", "'sounds'");
	identity = identity_of("frames", "ffffffff-4455-6677-8899-aabbccddeeff", 0);
	refuse_header(&region, &identity, -EEXIST, UUID, "ffffffff-4455-6677-8899-aabbccddeeff");
	read_page(&region, after);
	assert_memory_equal(after, before, sizeof(after));

	/* The longest that it has to say. */
	char name[64];
	memset(name, 'x', 63);
	name[63] = '\0';
	header_page(before, name, 1);
	write_page(&region, before);
	name[62] = 'y';
	identity = identity_of(name, NULL, 0);
	refuse_header(&region, &identity, -EEXIST, "xy'", "clear its first 4 KiB");
	region_fini(&region);
}

static void test_somebodys_data(void **state)
{
	struct region region = open_file();
	struct region_identity identity = identity_of("frames", NULL, 0);
	uint8_t page[HEADER_PAGE] = {0};
	(void)state;

	page[HEADER_PAGE - 1] = 1;
	write_page(&region, page);
	refuse_header(&region, &identity, -EEXIST, "in use", "leave header off");
	header_page(page, "frames", 5);
	header_word(page, 4, 2);
	write_page(&region, page);
	refuse_header(&region, &identity, -EEXIST, "later version", "");
	region_fini(&region);
}

/* A server was killed while it wrote, or a peer has written where it should not. */
static void test_damaged_file(void **state)
{
	uint8_t page[HEADER_PAGE];
	(void)state;

	for (int kind = 0; kind < 3; kind++) {
		struct region region = open_file();
		struct region_identity identity = identity_of("frames", UUID, 0), found;
		header_page(page, "frames", 5);
		if (kind == 0)
			memset(page + 4, 0, HEADER_PAGE - 4); /* the first word written */
		if (kind == 1)
			header_word(page, 12, 0); /* all but the last one */
		if (kind == 2)
			page[2000] = 1;
		write_page(&region, page);
		write_header(&region, &identity);
		read_page(&region, page);
		assert_int_equal(region_header_read(page, &found), 0);
		assert_string_equal(found.name, "frames");
		region_fini(&region);
	}
}

/* ---- what cannot be ---- */

static void test_impossible(void **state)
{
	static const char *const names[] = {"", ".", "..", "A", "a/b", "a b", "\xc3\xa4"};
	struct region region = make_memfd();
	struct region_identity identity;
	(void)state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		identity = identity_of(names[i], NULL, 0);
		refuse_header(&region, &identity, -EINVAL, "a-z 0-9 . _ -", names[i]);
	}
	memset(identity.name, 'a', sizeof(identity.name));
	refuse_header(&region, &identity, -EINVAL, "1 to 63", "");
	region_fini(&region);

	const struct region_config small = {
		.kind = REGION_MEMFD, .size = HEADER_PAGE, .numa_node = REGION_NUMA_ANY};
	region = create(&small);
	identity = identity_of("frames", NULL, 0);
	refuse_header(&region, &identity, -EINVAL, "at least 8K", "");
	region_fini(&region);
}

static void test_shrunk(void **state)
{
	struct region region = open_file();
	struct region_identity identity = identity_of("frames", UUID, 0);
	(void)state;

	assert_int_equal(region_guard_install(), 0);
	assert_int_equal(ftruncate(region.fd, 0), 0);
	refuse_header(&region, &identity, -EIO, "shrunk", "");
	identity.generation = 1;
	refuse_header(&region, &identity, -EIO, "shrunk", "");
	region_fini(&region);
}

/* ---- hostile pages ---- */

static void test_every_byte(void **state)
{
	struct region_identity found = {.name = "untouched"}, before = found;
	uint8_t page[HEADER_PAGE];
	(void)state;

	header_page(page, "frames", 5);
	for (unsigned i = 0; i < HEADER_PAGE; i++) {
		uint8_t good = page[i];
		for (int way = 0; way < 2; way++) {
			page[i] ^= way == 0 ? 0xff : (uint8_t)(1 << i % 8);
			int err = region_header_read(page, &found);
			bool other_version = i / 4 == 1 && err == -EPROTONOSUPPORT;
			assert_true(other_version || err == (i < 4 ? -ENODATA : -EBADMSG));
			page[i] = good;
		}
	}
	assert_memory_equal(&found, &before, sizeof(found));
	assert_int_equal(region_header_read(page, &found), 0);
}

/* It adds up, and yet says what cannot be. */
static void test_lies(void **state)
{
	static const struct {
		unsigned at, size;
		uint8_t byte;
		int expected;
	} cases[] = {
		{4, 1, 0, -EBADMSG},            /* version 0 */
		{4, 1, 2, -EPROTONOSUPPORT},    /* the next one */
		{7, 1, 0xff, -EPROTONOSUPPORT}, /* one far away */
		{8, 4, 0, -EBADMSG},            /* of no size */
		{9, 1, 0x20, -EBADMSG},         /* of 8 KiB */
		{16, 4, 0, -EBADMSG},           /* no generation */
		{32, 16, 0, -EBADMSG},          /* no UUID */
		{64, 64, 'a', -EBADMSG},        /* a name without an end */
		{64, 6, 0, -EBADMSG},           /* none */
		{64, 1, 'F', -EBADMSG},         /* not a legal one */
		{65, 1, '/', -EBADMSG}, {66, 1, 0x1b, -EBADMSG},
		{20, 4, 0xff, 0},  /* flags of later */
		{24, 8, 0xff, 0},  /* whatever the size of the region */
		{48, 8, 0xff, 0},  /* a directory is its reader's to check */
		{71, 1, 'x', 0},   /* what is behind the name's end is not looked at */
		{128, 8, 0xff, 0}, /* what is of later */
	};
	struct region_identity found;
	uint8_t page[HEADER_PAGE];
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		header_page(page, "frames", 5);
		memset(page + cases[i].at, cases[i].byte, cases[i].size);
		header_seal(page);
		assert_int_equal(region_header_read(page, &found), cases[i].expected);
	}
}

static void test_find(void **state)
{
	static _Alignas(4096) uint8_t page[HEADER_PAGE];
	struct region_identity found;
	(void)state;

	memset(page, 0, sizeof(page));
	assert_int_equal(region_header_find(page, sizeof(page), &found), -ENODATA);
	header_page(page, "frames", 5);
	assert_int_equal(region_header_find(page, sizeof(page) - 1, &found), -ENODATA);
	assert_int_equal(region_header_find(page, sizeof(page), &found), 0);
	assert_string_equal(found.name, "frames");
	header_word(page, 12, 0);
	assert_int_equal(region_header_find(page, sizeof(page), &found), -EBADMSG);
}

/* ---- while it is written ---- */

struct writer {
	struct region region;
	bool stop;
};

/* Two lives of the region by turns. A generation is odd with one of the UUIDs, even with the other.
 */
static void *write_on(void *argument)
{
	struct writer *writer = argument;
	struct region_error error;

	for (uint32_t turn = 1; !__atomic_load_n(&writer->stop, __ATOMIC_RELAXED); turn++) {
		struct region_identity identity = {.name = "frames", .generation = turn};
		memset(identity.uuid, turn % 2 ? 0xee : 0x11, sizeof(identity.uuid));
		memcpy(identity.name, turn % 2 ? "even" : "odd", turn % 2 ? 5 : 4);
		region_write_header(&writer->region, &identity, &error);
	}
	return NULL;
}

static void test_torn(void **state)
{
	struct writer writer = {.region = make_memfd()};
	struct region_identity found;
	pthread_t thread;
	uint64_t size;
	void *memory;
	bool sealed;
	unsigned whole = 0, tries;
	(void)state;

	assert_int_equal(region_map(writer.region.fd, 0, true, &memory, &size, &sealed), 0);
	assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
	for (tries = 0; whole < 200; tries++) {
		if (region_header_find(memory, size, &found) < 0)
			continue;
		bool even = found.generation % 2 == 0;
		assert_string_equal(found.name, even ? "even" : "odd");
		for (unsigned i = 0; i < UUID_SIZE; i++)
			assert_int_equal(found.uuid[i], even ? 0xee : 0x11);
		whole++;
	}
	__atomic_store_n(&writer.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	region_unmap(memory, size);
	region_fini(&writer.region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_layout),
		TEST(test_read_back),
		TEST(test_generations),
		FILE_TEST(test_forged_meanwhile),
		FILE_TEST(test_kept_by_file),
		FILE_TEST(test_other_regions_file),
		FILE_TEST(test_somebodys_data),
		FILE_TEST(test_damaged_file),
		TEST(test_impossible),
		FILE_TEST(test_shrunk),
		TEST(test_every_byte),
		TEST(test_lies),
		TEST(test_find),
		TEST(test_torn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
