/* SPDX-License-Identifier: MIT */
/*
 * src/region: objects that others can see by name, or that somebody else has made. What is not ours
 * is neither resized nor removed, and a start that fails leaves nothing behind.
 */
#include "../common/regiontest.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHM_PREFIX "ivshmem-test-"

/* ---- helpers ---- */

/* Stands in for the C library's open(), to be a file system without O_TMPFILE. */
static bool no_tmpfile;

int open(const char *file, int oflag, ...)
{
	va_list arguments;
	va_start(arguments, oflag);
	mode_t mode = oflag & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	if (no_tmpfile && (oflag & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return (int)syscall(SYS_openat, AT_FDCWD, file, oflag | O_LARGEFILE, mode);
}

/* And for its linkat(), on a machine without /proc. */
static bool no_proc;

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
	if (no_proc) {
		errno = ENOENT;
		return -1;
	}
	return (int)syscall(SYS_linkat, from_directory, from, to_directory, to, flags);
}

static const char *shm_test_name(void)
{
	static char name[64];
	static unsigned number;
	snprintf(name, sizeof(name), SHM_PREFIX "%d-%u", (int)getpid(), number++);
	return name;
}

static int make_shm(const char *name, off_t size)
{
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

/* ---- POSIX shared memory ---- */

static void test_shm_is_created_exclusively_and_removed(void **state)
{
	(void)state;
	struct region_config config = {.kind = REGION_SHM, .name = shm_test_name(), DEFAULTS};
	config.mode = 0666;
	mode_t umask_before = umask(0077);
	struct region region = create(&config);
	umask(umask_before);
	assert_true(region.created);
	assert_false(region.sealed);
	assert_has(region_warning(&region), "cannot be sealed");
	assert_int_equal(mode_of(region.fd), 0666);
	assert_int_equal(status(region.fd).st_blocks * 512, 4 * MiB);

	/* A second server neither gets it nor removes it. */
	struct region_error error = refuse(&config, -EEXIST, "-M/--shm");
	assert_has(error.text, "another server may be using it");
	assert_has(error.text, "--reuse");
	assert_has(error.text, "/dev/shm/" SHM_PREFIX);
	int fd = region_open_shm(config.name, true);
	assert_true(fd >= 0);
	close(fd);

	region_fini(&region);
	assert_int_equal(region_open_shm(config.name, true), -ENOENT);
}

static void test_shm_gets_its_name_when_it_is_whole(void **state)
{
	(void)state;
	struct region_config config = {.kind = REGION_SHM, .name = shm_test_name(), DEFAULTS};
	struct region region, faster;
	struct region_error error = {""};
	assert_int_equal(region_create(&region, &config, &error), 0);
	assert_int_equal(region_open_shm(config.name, true), -ENOENT);
	assert_int_equal(region_create(&faster, &config, &error), 0);
	assert_int_equal(region_publish(&faster, &error), 0);

	assert_int_equal(region_publish(&region, &error), -EEXIST);
	assert_has(error.text, "another server may be using it");
	region_fini(&region);
	int fd = region_open_shm(config.name, true); /* the faster one's */
	assert_int_equal(status(fd).st_ino, status(faster.fd).st_ino);
	assert_int_equal(status(fd).st_size, 4 * MiB);
	close(fd);

	region_unpublish(&faster);
	assert_int_equal(region_open_shm(config.name, true), -ENOENT);
	assert_int_equal(status(faster.fd).st_nlink, 0);
	region_fini(&faster);
}

static void test_shm_says_what_it_needs(void **state)
{
	(void)state;
	struct region_config config = {.kind = REGION_SHM, .name = shm_test_name(), DEFAULTS};
	no_tmpfile = true;
	struct region_error error = refuse(&config, -EOPNOTSUPP, "-M/--shm");
	no_tmpfile = false;
	assert_has(error.text, "in /dev/shm");
	assert_has(error.text, "mount a tmpfs there");

	struct region region;
	assert_int_equal(region_create(&region, &config, &error), 0);
	no_proc = true;
	assert_int_equal(region_publish(&region, &error), -ENOENT);
	no_proc = false;
	assert_has(error.text, "without /proc");
	region_fini(&region);
	assert_int_equal(region_open_shm(config.name, true), -ENOENT);
}

static void test_shm_of_a_killed_process_is_removed_by_its_descriptor(void **state)
{
	(void)state;
	struct region_config config = {.kind = REGION_SHM, .name = shm_test_name(), DEFAULTS};
	struct region region = create(&config), others;
	config.name = shm_test_name();
	others = create(&config);
	region_discard(fcntl(region.fd, F_DUPFD_CLOEXEC, 0));
	assert_int_equal(status(region.fd).st_nlink, 0);
	assert_int_equal(status(others.fd).st_nlink, 1);
	region_discard(fcntl(region.fd, F_DUPFD_CLOEXEC, 0)); /* it has no name */
	region_fini(&region);
	region_fini(&others);
}

static void test_shm_of_somebody_else_by_now_is_not_removed(void **state)
{
	(void)state;
	struct region_config config = {.kind = REGION_SHM, .name = shm_test_name(), DEFAULTS};
	struct region region = create(&config);
	assert_int_equal(mode_of(region.fd), 0600);
	shm_unlink(config.name);
	int other = make_shm(config.name, 4096);
	region_fini(&region);
	int found = region_open_shm(config.name, false);
	assert_true(found >= 0);
	assert_int_equal(status(found).st_ino, status(other).st_ino);
	close(found);
	close(other);
	shm_unlink(config.name);
}

static void test_failed_start_removes_the_shm_it_created(void **state)
{
	(void)state;
	struct region_config config = {.kind = REGION_SHM, .name = shm_test_name(), DEFAULTS};
	config.size = 2 * meminfo("MemTotal");
	limit_files(256 * MiB);
	refuse(&config, -ENOMEM, "-l/--size");
	limit_files(RLIM_INFINITY);
	assert_int_equal(region_open_shm(config.name, true), -ENOENT);
}

static void test_reuse_adopts_and_changes_nothing(void **state)
{
	(void)state;
	struct region_config config = {
		.kind = REGION_SHM, .name = shm_test_name(), DEFAULTS, .reuse = true};
	int other = make_shm(config.name, 8 * MiB);
	assert_int_equal(pwrite(other, "kept", 4, 5000), 4);
	struct region region = create(&config);
	assert_false(region.created);
	assert_int_equal(region.size, 8 * MiB);
	assert_int_equal(status(region.fd).st_blocks * 512, 8 * MiB); /* its holes are filled */
	char text[5] = "";
	assert_int_equal(pread(region.fd, text, 4, 5000), 4);
	assert_string_equal(text, "kept");
	assert_has(region_warning(&region), "cannot be sealed");
	region_fini(&region);

	config.size = 9 * MiB;
	refuse(&config, -EINVAL, "-l/--size");
	config.size = 4 * MiB;
	config.numa_node = 0;
	refuse(&config, -EINVAL, "--numa-node");
	config.numa_node = REGION_NUMA_ANY;
	assert_int_equal(ftruncate(other, 8 * MiB + 4096), 0);
	refuse(&config, -EINVAL, "--reuse");
	assert_int_equal(ftruncate(other, 0), 0);
	refuse(&config, -EINVAL, "--reuse");
	assert_int_equal(status(other).st_size, 0);
	close(other);
	assert_int_equal(shm_unlink(config.name), 0); /* still there after all that */

	region = create(&config); /* nothing to adopt: made, and ours */
	assert_true(region.created);
	region_fini(&region);
	assert_int_equal(region_open_shm(config.name, true), -ENOENT);
}

static void test_shm_names(void **state)
{
	(void)state;
	char too_long[300];
	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	const char *const bad[] = {"/", "//x", "a/b", ".", "..", "/..", "x/", too_long};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		refuse(&(struct region_config){.kind = REGION_SHM, .name = bad[i], DEFAULTS},
			-EINVAL, "-M/--shm");
		assert_int_equal(region_open_shm(bad[i], true), -EINVAL);
	}
	char slash[80];
	snprintf(slash, sizeof(slash), "/%s", shm_test_name());
	struct region region =
		create(&(struct region_config){.kind = REGION_SHM, .name = slash, DEFAULTS});
	int fd = region_open_shm(slash + 1, false); /* the same object without the slash */
	assert_true(fd >= 0);
	close(fd);
	region_fini(&region);
	too_long[253] = '\0'; /* the longest there is, so that the C library's limit is ours */
	memcpy(too_long, slash + 1, strlen(slash + 1));
	region = create(&(struct region_config){.kind = REGION_SHM, .name = too_long, DEFAULTS});
	region_fini(&region);
}

/* ---- directory and file ---- */

static void check_unnamed_file(void)
{
	char *path = make_directory();
	struct region_config config = {.kind = REGION_DIR, .name = path, DEFAULTS, .mode = 0640};
	config.size = 5 * MiB;
	struct region region = create(&config);
	assert_int_equal(region.size, 8 * MiB);
	assert_int_equal(status(region.fd).st_nlink, 0);
	assert_int_equal(mode_of(region.fd), 0640);
	assert_int_equal(fcntl(region.fd, F_GETFD), FD_CLOEXEC);
	assert_true(status(region.fd).st_blocks * 512 >= (blkcnt_t)(8 * MiB));
	assert_has(region_warning(&region), "cannot be sealed");
	assert_int_equal(rmdir(path), 0); /* there is nothing in it */
	region_fini(&region);
}

static void test_dir_holds_no_name(void **state)
{
	(void)state;
	check_unnamed_file();
	no_tmpfile = true;
	check_unnamed_file();
	no_tmpfile = false;
}

static void test_dir_that_cannot_be_used(void **state)
{
	(void)state;
	struct region_config config = {.kind = REGION_DIR, .name = "/nonexistent", DEFAULTS};
	refuse(&config, -ENOENT, "-m/--dir");
	config.name = "/proc/self/exe";
	refuse(&config, -ENOTDIR, "-m/--dir");
	config.name = "/proc/self"; /* no file can be made there, with or without O_TMPFILE */
	struct region region_in_proc;
	struct region_error error;
	assert_true(region_create(&region_in_proc, &config, &error) < 0);
	assert_has(error.text, "-m/--dir");
}

static void test_dir_on_a_full_file_system(void **state)
{
	(void)state;
	/* /dev/shm is a tmpfs with a limit, usually half of the memory. */
	struct region_config config = {.kind = REGION_DIR, .name = "/dev/shm", DEFAULTS};
	config.size = 2 * meminfo("MemTotal");
	limit_files(256 * MiB);
	refuse(&config, -ENOMEM, "-l/--size");
	limit_files(RLIM_INFINITY);
}

static void test_file_is_used_as_it_is(void **state)
{
	(void)state;
	char *directory = make_directory();
	char path[128];
	snprintf(path, sizeof(path), "%s/file", directory);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	assert_int_equal(pwrite(fd, "kept", 4, 0), 4);
	assert_int_equal(ftruncate(fd, 2 * MiB), 0);
	struct region_config config = {
		.kind = REGION_FILE, .name = path, .numa_node = REGION_NUMA_ANY};
	struct region region = create(&config);
	assert_int_equal(region.size, 2 * MiB);
	assert_int_equal(mode_of(region.fd), 0640);
	assert_true(status(fd).st_blocks * 512 >= (blkcnt_t)(2 * MiB)); /* holes filled */
	assert_has(region_warning(&region), "cannot be sealed");
	region_fini(&region);
	assert_int_equal(access(path, F_OK), 0);
	char text[5] = "";
	assert_int_equal(pread(fd, text, 4, 0), 4);
	assert_string_equal(text, "kept");

	config.size = MiB; /* at least that much: yes */
	region = create(&config);
	assert_int_equal(region.size, 2 * MiB);
	region_fini(&region);
	config.size = 3 * MiB;
	refuse(&config, -EINVAL, "-l/--size");
	assert_int_equal(status(fd).st_size, 2 * MiB);

	config.size = 0;
	const off_t bad_sizes[] = {0, 2048, 3 * MiB, 2 * MiB + 1};
	for (size_t i = 0; i < sizeof(bad_sizes) / sizeof(bad_sizes[0]); i++) {
		assert_int_equal(ftruncate(fd, bad_sizes[i]), 0);
		refuse(&config, -EINVAL, "--file");
		assert_int_equal(status(fd).st_size, bad_sizes[i]);
	}
	close(fd);
	remove_tree(directory);
	refuse(&config, -ENOENT, "--file");
	config.name = "/dev/null";
	refuse(&config, -EINVAL, "--file");
	config.name = "/tmp";
	refuse(&config, -EISDIR, "--file");
}

/* ---- */

static int no_shm_left(void **state)
{
	(void)state;
	int left = 0;
	DIR *directory = opendir("/dev/shm");
	char mine[64];
	snprintf(mine, sizeof(mine), SHM_PREFIX "%d-", (int)getpid());
	for (struct dirent *entry; directory && (entry = readdir(directory));)
		if (strncmp(entry->d_name, mine, strlen(mine)) == 0) {
			print_error("left behind: /dev/shm/%s\n", entry->d_name);
			left++;
		}
	if (directory)
		closedir(directory);
	return left ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shm_is_created_exclusively_and_removed),
		TEST(test_shm_gets_its_name_when_it_is_whole),
		TEST(test_shm_says_what_it_needs),
		TEST(test_shm_of_a_killed_process_is_removed_by_its_descriptor),
		TEST(test_shm_of_somebody_else_by_now_is_not_removed),
		TEST(test_failed_start_removes_the_shm_it_created),
		TEST(test_reuse_adopts_and_changes_nothing),
		TEST(test_shm_names),
		TEST(test_dir_holds_no_name),
		TEST(test_dir_that_cannot_be_used),
		TEST(test_dir_on_a_full_file_system),
		TEST(test_file_is_used_as_it_is),
	};
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, no_shm_left);
}
