/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Peers may be reading the page while it is written, and they have no lock that a hostile one could
 * not hold for ever. So the page carries a sum of all that is in it, the last word that is written:
 * whoever copies a mixture of two headers, or a damaged one, sees that it does not add up and looks
 * again. The sum is the CRC-32 that everybody has in a library, and that firmware
 * computes in a few lines. It is no protection against those who write the page on purpose; nothing
 * in shared memory is.
 *
 * An object that was there before us is looked at first. A page that is neither ours nor empty is
 * somebody's data: better not to start than to overwrite it. What begins with our magic word is
 * ours even if it does not add up, because a server was killed just then or a peer has scribbled
 * there; the word is therefore the first one written.
 */
#include "region/header.h"

#include "base/le.h"
#include "base/parse.h"
#include "region/guard.h"
#include "region/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#define WORDS         (IVSHMEM_HEADER_SIZE / 4)
#define LOOKS         5 /* at a page that is being written, */
#define PAUSE_NS      1000000L
#define DIRECTORY_MAX (64 + 128 * 255) /* bytes, docs/channel.md, section 2 */
#define CRC_REVERSE   0xedb88320u      /* the polynomial of CRC-32, lowest bit first */

_Static_assert((unsigned)IVSHMEM_HEADER_UUID_SIZE == UUID_SIZE, "the page has room for a UUID");

/* ---- pages ---- */

static uint32_t get(const uint8_t *page, enum ivshmem_header offset)
{
	return (uint32_t)load_le(page + offset, 4);
}

static void put(uint8_t *page, enum ivshmem_header offset, uint32_t value)
{
	store_le(page + offset, 4, value);
}

/* The CRC-32 of the page with its CHECK taken as 0. */
static uint32_t sum_up(const uint8_t *page)
{
	uint32_t crc = UINT32_MAX;

	for (unsigned i = 0; i < IVSHMEM_HEADER_SIZE; i++) {
		bool is_check = i / 4 == IVSHMEM_HEADER_CHECK / 4;
		crc ^= is_check ? 0 : page[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? CRC_REVERSE : 0);
	}
	return ~crc;
}

int region_header_read(const uint8_t page[IVSHMEM_HEADER_SIZE], struct region_identity *identity)
{
	struct region_identity found = {.generation = get(page, IVSHMEM_HEADER_GENERATION)};

	if (get(page, IVSHMEM_HEADER_MAGIC) != IVSHMEM_HEADER_MAGIC_VALUE)
		return -ENODATA;
	if (get(page, IVSHMEM_HEADER_VERSION) > IVSHMEM_HEADER_VERSION_VALUE)
		return -EPROTONOSUPPORT;
	if (get(page, IVSHMEM_HEADER_VERSION) != IVSHMEM_HEADER_VERSION_VALUE ||
		get(page, IVSHMEM_HEADER_BYTES) != IVSHMEM_HEADER_SIZE ||
		get(page, IVSHMEM_HEADER_CHECK) != sum_up(page))
		return -EBADMSG;
	memcpy(found.uuid, page + IVSHMEM_HEADER_UUID, sizeof(found.uuid));
	memcpy(found.name, page + IVSHMEM_HEADER_NAME, sizeof(found.name));
	if (!memchr(found.name, '\0', sizeof(found.name)) || !name_is_valid(found.name) ||
		uuid_is_nil(found.uuid) || found.generation == 0)
		return -EBADMSG;
	*identity = found;
	return 0;
}

int region_header_find(const void *memory, uint64_t size, struct region_identity *identity)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	uint8_t page[IVSHMEM_HEADER_SIZE];
	int err = -ENODATA;

	for (int look = 0; look < LOOKS && size >= IVSHMEM_HEADER_SIZE; look++) {
		if (look > 0)
			nanosleep(&pause, NULL);
		for (unsigned i = 0; i < WORDS; i++) {
			uint32_t word = ((const volatile uint32_t *)memory)[i];
			memcpy(page + (size_t)4 * i, &word, 4);
		}
		err = region_header_read(page, identity);
		if (err != -EBADMSG)
			return err;
	}
	return err;
}

/* ---- writing ---- */

/* Is the object one that somebody may have used before? */
static bool is_old(const struct region *region)
{
	switch (region->kind) {
	case REGION_MEMFD:
	case REGION_DIR:
		return false;
	case REGION_SHM:
		return !region->created;
	case REGION_FILE:
		return true;
	}
	return true;
}

static bool is_empty(const uint8_t page[IVSHMEM_HEADER_SIZE])
{
	return page[0] == 0 && memcmp(page, page + 1, IVSHMEM_HEADER_SIZE - 1) == 0;
}

/* Take over UUID and generation of the header that `page` has, if it is this region's. */
static int take_over(struct region_identity *identity, const uint8_t page[IVSHMEM_HEADER_SIZE],
	struct region_error *error)
{
	char theirs[UUID_TEXT_SIZE], ours[UUID_TEXT_SIZE];
	struct region_identity old;
	int err = region_header_read(page, &old);

	if (err == -EPROTONOSUPPORT)
		return region_fail(error, -EEXIST,
			"header: the memory has one of a later version: use that server");
	if (err == -ENODATA && !is_empty(page))
		return region_fail(error, -EEXIST,
			"header: the first 4 KiB, where it would be, are in use: clear them, or "
			"leave header off");
	if (err < 0)
		return 0;
	if (strcmp(old.name, identity->name) != 0)
		return region_fail(error, -EEXIST,
			"header: the memory belongs to region '%s', not '%s': give it that name, "
			"or clear its first 4 KiB",
			old.name, identity->name);
	if (!uuid_is_nil(identity->uuid) && memcmp(old.uuid, identity->uuid, UUID_SIZE) != 0)
		return region_fail(error, -EEXIST,
			"header: the memory has the UUID %s, not %s: leave the UUID out, or clear "
			"its first 4 KiB",
			uuid_format(old.uuid, theirs), uuid_format(identity->uuid, ours));
	*identity = old;
	return 0;
}

/* Fill in what is not known yet, and the generation that comes next. */
static int complete(struct region_identity *identity, struct region_error *error)
{
	int err = uuid_is_nil(identity->uuid) ? uuid_random(identity->uuid) : 0;

	if (err == 0 && identity->generation == 0 &&
		getrandom(&identity->generation, sizeof(identity->generation), 0) < 0)
		err = -errno;
	if (err < 0)
		return region_fail(error, err, "header: random numbers: %m");
	identity->generation++;
	if (identity->generation == 0)
		identity->generation = 1;
	return 0;
}

/* Where a directory of channels is if there is one: behind this page. It is not ours. */
static uint32_t directory_size(uint64_t region_size)
{
	const uint64_t room = region_size - IVSHMEM_HEADER_SIZE;
	return room < DIRECTORY_MAX ? (uint32_t)room : DIRECTORY_MAX;
}

static void fill_page(uint8_t page[IVSHMEM_HEADER_SIZE], const struct region_identity *identity,
	uint64_t region_size)
{
	memset(page, 0, IVSHMEM_HEADER_SIZE);
	put(page, IVSHMEM_HEADER_MAGIC, IVSHMEM_HEADER_MAGIC_VALUE);
	put(page, IVSHMEM_HEADER_VERSION, IVSHMEM_HEADER_VERSION_VALUE);
	put(page, IVSHMEM_HEADER_BYTES, IVSHMEM_HEADER_SIZE);
	put(page, IVSHMEM_HEADER_GENERATION, identity->generation);
	put(page, IVSHMEM_HEADER_REGION_LOW, (uint32_t)region_size);
	put(page, IVSHMEM_HEADER_REGION_HIGH, (uint32_t)(region_size >> 32));
	put(page, IVSHMEM_HEADER_DIRECTORY, IVSHMEM_HEADER_SIZE);
	put(page, IVSHMEM_HEADER_DIRECTORY_SIZE, directory_size(region_size));
	memcpy(page + IVSHMEM_HEADER_UUID, identity->uuid, sizeof(identity->uuid));
	memcpy(page + IVSHMEM_HEADER_NAME, identity->name, strlen(identity->name));
	put(page, IVSHMEM_HEADER_CHECK, sum_up(page));
}

static bool store_word(uint8_t *memory, size_t offset, const uint8_t *page)
{
	return region_guarded_write(memory + offset, page + offset, 4);
}

/* CHECK when all else is there. */
static bool store_page(uint8_t *memory, const uint8_t page[IVSHMEM_HEADER_SIZE])
{
	bool done = true;

	for (size_t offset = 0; offset < IVSHMEM_HEADER_SIZE && done; offset += 4)
		if (offset != IVSHMEM_HEADER_CHECK)
			done = store_word(memory, offset, page);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return done && store_word(memory, IVSHMEM_HEADER_CHECK, page);
}

static int fail_gone(struct region_error *error)
{
	return region_fail(error, -EIO, "header: somebody has shrunk the memory");
}

static int write_page(const struct region *region, struct region_identity *identity,
	uint8_t *memory, struct region_error *error)
{
	uint8_t page[IVSHMEM_HEADER_SIZE];
	int err = 0;

	if (identity->generation == 0 && is_old(region)) {
		if (!region_guarded_read(memory, page, sizeof(page)))
			return fail_gone(error);
		err = take_over(identity, page, error);
	}
	if (err == 0)
		err = complete(identity, error);
	if (err < 0)
		return err;
	fill_page(page, identity, region->size);
	return store_page(memory, page) ? 0 : fail_gone(error);
}

int region_write_header(
	const struct region *region, struct region_identity *identity, struct region_error *error)
{
	struct region_identity ours = *identity;

	if (!memchr(ours.name, '\0', sizeof(ours.name)) || !name_is_valid(ours.name))
		return region_fail(error, -EINVAL,
			"header: a name is 1 to 63 of a-z 0-9 . _ -, and not '%.63s'", ours.name);
	if (region->size <= IVSHMEM_HEADER_SIZE)
		return region_fail(error, -EINVAL,
			"header: it takes 4 KiB, all there is: give the region at least 8K");
	/* Of huge pages a whole one. */
	void *memory = mmap(
		NULL, (size_t)region->granule, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
	if (memory == MAP_FAILED)
		return region_fail(error, -errno, "header: cannot map the memory: %m");
	int err = write_page(region, &ours, memory, error);
	munmap(memory, (size_t)region->granule);
	if (err == 0)
		*identity = ours;
	return err;
}
