/* SPDX-License-Identifier: MIT */
/*
 * A guest's /sys, /dev and /proc with ivshmem devices in them, as far as src/guest looks: ordinary
 * files in a folder of the test's own. BARs are files, too, so what is written to a register is
 * there to be read.
 *
 *     TREE_TEST(test_x)
 *     ...
 *     tree_device("0000:00:04.0", NULL);
 *     err = guest_open(&guest, &tree, GUEST_PCI, "0000:00:04.0", &params, &error);
 *     guest_close(&guest);
 */
#ifndef TESTS_GUESTTREE_H
#define TESTS_GUESTTREE_H

#include "fdcheck.h"

#include "guest/cache.h"
#include "guest/guest.h"

#include <ivshmem/abi.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREE_DEVICES "sys/bus/pci/devices"
#define TREE_BDF     "0000:00:04.0"

enum { TREE_REGION = 65536, TREE_VECTORS = 4, TREE_HUGE = 1 << 20 };

static char tree_folder[32], tree_sys[40], tree_dev[40], tree_proc[40];
static const struct guest_system tree = {.sys = tree_sys, .dev = tree_dev, .proc = tree_proc};

static inline void tree_plant(void)
{
	snprintf(tree_folder, sizeof(tree_folder), "/tmp/ivshmem-test-XXXXXX");
	assert_non_null(mkdtemp(tree_folder));
	snprintf(tree_sys, sizeof(tree_sys), "%s/sys", tree_folder);
	snprintf(tree_dev, sizeof(tree_dev), "%s/dev", tree_folder);
	snprintf(tree_proc, sizeof(tree_proc), "%s/proc", tree_folder);
}

static inline int tree_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline void tree_fell(void)
{
	assert_int_equal(nftw(tree_folder, tree_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* As set-up and tear-down of a test that wants a tree. */
static inline int tree_setup(void **state)
{
	fdcheck_setup(state);
	tree_plant();
	return 0;
}

static inline int tree_teardown(void **state)
{
	tree_fell();
	return fdcheck_teardown(state);
}

#define TREE_TEST(function) cmocka_unit_test_setup_teardown(function, tree_setup, tree_teardown)

/* ---- files ---- */

struct tree_path {
	char text[PATH_MAX];
};

/* Where a file of the tree is. The folders on the way are made. */
__attribute__((format(printf, 1, 2))) static inline struct tree_path tree_path(
	const char *format, ...)
{
	struct tree_path path;
	va_list arguments;

	int n = snprintf(path.text, sizeof(path.text), "%s/", tree_folder);
	va_start(arguments, format);
	vsnprintf(path.text + n, sizeof(path.text) - n, format, arguments);
	va_end(arguments);
	for (char *at = path.text + n; (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		assert_true(mkdir(path.text, 0755) == 0 || errno == EEXIST);
		*at = '/';
	}
	return path;
}

static inline void tree_bytes(struct tree_path path, const void *bytes, size_t size)
{
	FILE *file = fopen(path.text, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
}

static inline void tree_text(struct tree_path path, const char *text)
{
	tree_bytes(path, text, strlen(text));
}

/* A MiB of the same. */
static inline void tree_huge(struct tree_path path, char byte)
{
	char *bytes = malloc(TREE_HUGE);
	assert_non_null(bytes);
	memset(bytes, byte, TREE_HUGE);
	tree_bytes(path, bytes, TREE_HUGE);
	free(bytes);
}

/* A file of that many zeros. */
static inline void tree_zeros(struct tree_path path, off_t size)
{
	tree_text(path, "");
	assert_int_equal(truncate(path.text, size), 0);
}

static inline void tree_link(struct tree_path path, const char *target)
{
	assert_int_equal(symlink(target, path.text), 0);
}

static inline void tree_drop(struct tree_path path)
{
	assert_int_equal(remove(path.text), 0);
}

/* A 32 bit word of a file. */
static inline uint32_t tree_word(struct tree_path path, off_t at)
{
	uint32_t word;
	int fd = open(path.text, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, &word, sizeof(word), at), sizeof(word));
	close(fd);
	return le32toh(word);
}

static inline void tree_set_word(struct tree_path path, off_t at, uint32_t word)
{
	word = htole32(word);
	int fd = open(path.text, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, &word, sizeof(word), at), sizeof(word));
	close(fd);
}

/* ---- devices ---- */

static inline struct tree_path tree_file(const char *address, const char *name)
{
	return tree_path(TREE_DEVICES "/%s/%s", address, name);
}

/* Configuration space with MSI-X of so many vectors, switched on, or without. */
static inline void tree_config(const char *address, int vectors)
{
	uint8_t config[256] = {0xf4, 0x1a, 0x10, 0x11, [0x04] = 0x06, [0x08] = 1};

	if (vectors > 0) {
		config[0x06] = 0x10; /* there are capabilities: */
		config[0x34] = 0x40;
		config[0x40] = 0x05; /* one that is not looked for, */
		config[0x41] = 0x50;
		config[0x50] = 0x11; /* and MSI-X */
		config[0x52] = (uint8_t)(vectors - 1);
		config[0x53] = (uint8_t)((vectors - 1) >> 8 | 0x80);
	}
	tree_bytes(tree_file(address, "config"), config, sizeof(config));
}

/* An ivshmem device as QEMU makes it, with the ID 0. `driver` may be NULL: none is bound. */
static inline void tree_device(const char *address, const char *driver)
{
	char target[64];

	tree_text(tree_file(address, "vendor"), "0x1af4\n");
	tree_text(tree_file(address, "device"), "0x1110\n");
	tree_text(tree_file(address, "revision"), "0x01\n");
	tree_text(tree_file(address, "resource"),
		"0x00000000febf1000 0x00000000febf10ff 0x0000000000040200\n"
		"0x00000000febf2000 0x00000000febf2fff 0x0000000000040200\n"
		"0x0000380000000000 0x000038000000ffff 0x000000000014220c\n"
		"0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
	tree_config(address, TREE_VECTORS);
	tree_text(tree_file(address, "enable"), "0\n");
	tree_zeros(tree_file(address, "resource0"), sysconf(_SC_PAGESIZE));
	tree_zeros(tree_file(address, SYSFS_MEMORY), TREE_REGION);
	if (!driver)
		return;
	snprintf(target, sizeof(target), "../../../../bus/pci/drivers/%s", driver);
	tree_link(tree_file(address, "driver"), target);
}

/* ---- what uio_ivshmem adds to them ---- */

#define TREE_CLASS "sys/class/uio"
#define TREE_ATTR  TREE_DEVICES "/" TREE_BDF "/ivshmem"
#define TREE_NAME  "ivshmem-" TREE_BDF
#define TREE_UIO   3 /* vector 0 is uio3 */

/* A UIO device that has been rung `events` times. Registers and memory are in its own file. */
static inline void tree_uio(unsigned uio, const char *name, unsigned events)
{
	char text[64];

	snprintf(text, sizeof(text), "%s\n", name);
	tree_text(tree_path(TREE_CLASS "/uio%u/name", uio), text);
	snprintf(text, sizeof(text), "%u\n", events);
	tree_text(tree_path(TREE_CLASS "/uio%u/event", uio), text);
	tree_path(TREE_DEVICES "/" TREE_BDF "/uio/uio%u/", uio);
	tree_zeros(tree_path("dev/uio%u", uio), sysconf(_SC_PAGESIZE) + TREE_REGION);
}

/* A device with the ID 5, whose vector 0 has been rung 7 times. */
static inline void tree_uio_device(void)
{
	char name[40];

	tree_device(TREE_BDF, "uio_ivshmem");
	tree_text(tree_path(TREE_ATTR "/vectors"), "4\n");
	for (unsigned i = 0; i < TREE_VECTORS; i++) {
		snprintf(name, sizeof(name), TREE_NAME ".%u", i);
		tree_uio(TREE_UIO + i, name, i == 0 ? 7 : 0);
		tree_set_word(tree_path("dev/uio%u", TREE_UIO + i), IVSHMEM_REG_IVPOSITION, 5);
	}
}

/* ---- what the tests of opening share ---- */

/* As a transport hands them on: no zero stands for a default any more. */
static const struct ivshmem_params tree_params = {
	.struct_size = sizeof(struct ivshmem_params),
	.timeout_ms = 20,
	.max_vectors = 2048,
	.poll_us = 1000,
};

/* The message has to be one line that says all of what `hint` has, in the room that
 * <ivshmem/peer.h> calls plenty. */
static inline void tree_assert_says(const struct guest_error *error, const char *hint)
{
	if (!strstr(error->text, hint))
		fail_msg("\"%s\" does not say \"%s\"", error->text, hint);
	if (strlen(error->text) >= 256 || strchr(error->text, '\n'))
		fail_msg("\"%s\": %zu bytes", error->text, strlen(error->text));
}

static inline void tree_assert_fails(enum guest_way way, const char *rest,
	const struct ivshmem_params *params, int expected, const char *hint)
{
	struct guest guest = {0};
	struct guest_error error = {""};

	assert_int_equal(guest_open(&guest, &tree, way, rest, params, &error), expected);
	tree_assert_says(&error, hint);
}

static inline void tree_open(struct guest *guest, enum guest_way way, const char *rest,
	const struct ivshmem_params *params)
{
	struct guest_error error = {""};

	*guest = (struct guest){0};
	if (guest_open(guest, &tree, way, rest, params, &error) < 0)
		fail_msg("%s", error.text);
}

#endif
