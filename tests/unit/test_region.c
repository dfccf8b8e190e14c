/* SPDX-License-Identifier: MIT */
/*
 * src/region: nothing that a peer or an operator does may kill others by SIGBUS, start the OOM
 * killer or leave anything behind. Sizes above the machine's memory are tried with RLIMIT_FSIZE
 * low, so that a missing check fails a test instead of taking the machine down.
 */
#include "../common/regiontest.h"

#include "region/budget.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TiB        (UINT64_C(1) << 40)
#define SHM_PREFIX "ivshmem-test-"

/* ---- helpers ---- */

/* Stands in for the C library's fallocate(), to say what happens between two steps. */
static unsigned fallocate_calls;
static void (*before_fallocate)(unsigned call);
static int fallocate_errno; /* fail the next call so, once */

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	fallocate_calls++;
	if (before_fallocate)
		before_fallocate(fallocate_calls);
	if (fallocate_errno) {
		errno = fallocate_errno;
		fallocate_errno = 0;
		return -1;
	}
	if (sizeof(long) == sizeof(off_t))
		return (int)syscall(SYS_fallocate, fd, mode, offset, len);
	return (int)syscall(SYS_fallocate, fd, mode, (long)offset, (long)(offset >> 31 >> 1),
		(long)len, (long)(len >> 31 >> 1));
}

/* And for open(), to be a file system without O_TMPFILE. */
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

/* Must fail with `err`, say one whole line that names `option`, and leave nothing. */
static struct region_error refuse(const struct region_config *config, int err, const char *option)
{
	struct region region;
	struct region_error error = {""};
	assert_int_equal(region_create(&region, config, &error), err);
	assert_has(error.text, option);
	assert_null(strchr(error.text, '\n'));
	assert_true(strlen(error.text) < sizeof(error.text) - 1);
	assert_int_equal(region.fd, -1);
	assert_null(region.name);
	region_fini(&region);
	return error;
}

static struct stat status(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return st;
}

static mode_t mode_of(int fd)
{
	return status(fd).st_mode & 07777;
}

static uint64_t meminfo(const char *key)
{
	char text[8192];
	int fd = open("/proc/meminfo", O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	assert_true(n > 0);
	text[n] = '\0';
	uint64_t value;
	assert_true(budget_field(text, key, &value));
	return value;
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

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* ---- size ---- */

static void test_sizes_round_up_to_a_power_of_two(void **state)
{
	(void)state;
	assert_int_equal(region_round_size(0), 4096);
	assert_int_equal(region_round_size(4096), 4096);
	assert_int_equal(region_round_size(4097), 8192);
	assert_int_equal(region_round_size(5 * MiB), 8 * MiB);
	assert_true(region_round_size(3072 * MiB) == 4096 * MiB); /* 32 bit would wrap */
	assert_true(region_round_size(99999 * TiB) == UINT64_C(1) << 57);
	assert_true(region_round_size(UINT64_C(1) << 62) == UINT64_C(1) << 62);
	assert_int_equal(region_round_size((UINT64_C(1) << 62) + 1), 0);
	assert_int_equal(region_round_size(UINT64_MAX), 0);
}

static void test_absurd_sizes_are_refused_before_anything_is_allocated(void **state)
{
	(void)state;
	limit_files(256 * MiB);
	uint64_t available = meminfo("MemAvailable");
	uint64_t shared = meminfo("Shmem");
	const uint64_t sizes[] = {2 * available, 99999 * TiB, UINT64_C(1) << 62};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct region_config config = {DEFAULTS};
		config.size = sizes[i];
		struct region_error error = refuse(&config, -ENOMEM, "-l/--size");
		assert_has(error.text, " needed, ");
		assert_has(error.text, " available (");
		assert_has(error.text, "--no-prealloc");
	}
	assert_true(meminfo("Shmem") < shared + 64 * MiB);

	refuse(&(struct region_config){.size = UINT64_MAX, .numa_node = -1}, -EINVAL, "-l/--size");
	refuse(&(struct region_config){.size = 0, .numa_node = -1}, -EINVAL, "-l/--size");
	limit_files(RLIM_INFINITY);
}

static void test_reserve_is_kept_free(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS, .reserve = 2 * meminfo("MemTotal")};
	struct region_error error = refuse(&config, -ENOMEM, "--memory-reserve");
	assert_has(error.text, "4 MiB needed, 0 B available");
	config.reserve = UINT64_MAX;
	refuse(&config, -ENOMEM, "--memory-reserve");
	config.no_prealloc = true;
	struct region region = create(&config);
	region_fini(&region);
}

static void test_file_size_limit_is_an_error_not_a_signal(void **state)
{
	(void)state;
	limit_files(4 * MiB);
	signal(SIGXFSZ, SIG_DFL);
	struct region_config config = {DEFAULTS};
	struct region region = create(&config);
	region_fini(&region);
	config.size = 5 * MiB;
	refuse(&config, -EFBIG, "-l/--size");
	signal(SIGXFSZ, SIG_IGN);
	limit_files(RLIM_INFINITY);
}

static void test_no_prealloc_allocates_nothing(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS, .no_prealloc = true};
	struct region region = create(&config);
	assert_int_equal(status(region.fd).st_blocks, 0);
	assert_int_equal(status(region.fd).st_size, 4 * MiB);
	assert_int_equal(fcntl(region.fd, F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
	region_fini(&region);
	/* What no process could map is refused all the same. */
	config.size = 99999 * TiB;
	refuse(&config, -ENOMEM, "-l/--size");
}

/* ---- memfd ---- */

static void test_memfd_is_rounded_allocated_private_and_sealed(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS};
	config.size = 5 * MiB;
	mode_t umask_before = umask(0);
	struct region region = create(&config);
	umask(umask_before);
	struct stat st = status(region.fd);
	assert_int_equal(region.size, 8 * MiB);
	assert_int_equal(st.st_size, 8 * MiB);
	assert_int_equal(st.st_blocks * 512, 8 * MiB);
	assert_int_equal(region.granule, sysconf(_SC_PAGESIZE));
	assert_int_equal(mode_of(region.fd), 0600);
	assert_true(region.sealed);
	assert_false(region.created);
	assert_int_equal(fcntl(region.fd, F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
	assert_int_equal(fcntl(region.fd, F_GETFD), FD_CLOEXEC);
	assert_null(region_warning(&region));
	region_fini(&region);
	assert_int_equal(region.fd, -1);
	region_fini(&region);
}

static void test_memfd_larger_than_one_step_is_allocated_whole(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS};
	config.size = 100 * MiB;
	struct region region = create(&config);
	assert_int_equal(status(region.fd).st_blocks * 512, 128 * MiB);
	region_fini(&region);
}

static struct region_config shrinking;

static void take_memory(unsigned call)
{
	if (call == 1)
		shrinking.reserve = UINT64_MAX; /* as if others had taken all the rest */
}

static void test_budget_is_asked_again_before_each_step(void **state)
{
	(void)state;
	shrinking = (struct region_config){.size = 128 * MiB, .numa_node = REGION_NUMA_ANY};
	before_fallocate = take_memory;
	fallocate_calls = 0;
	struct region_error error = refuse(&shrinking, -ENOMEM, "--memory-reserve");
	before_fallocate = NULL;
	assert_int_equal(fallocate_calls, 1);
	assert_has(error.text, "64 MiB needed, 0 B available");
}

static void test_allocation_that_fails(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS};
	fallocate_errno = EINTR; /* a signal is no failure */
	struct region region = create(&config);
	assert_int_equal(status(region.fd).st_blocks * 512, 4 * MiB);
	region_fini(&region);
	fallocate_errno = ENOSPC;
	refuse(&config, -ENOSPC, "-l/--size");
	fallocate_errno = EOPNOTSUPP;
	refuse(&config, -EOPNOTSUPP, "--no-prealloc");
}

static void test_mode_is_what_was_asked_for(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS, .mode = 0660};
	struct region region = create(&config);
	assert_int_equal(mode_of(region.fd), 0660);
	region_fini(&region);
	config.mode = 0755;
	refuse(&config, -EINVAL, "--region-mode");
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

/* ---- what cannot be combined ---- */

static void test_impossible_combinations_name_the_option(void **state)
{
	(void)state;
	const struct {
		struct region_config config;
		const char *option;
	} cases[] = {
		{{.kind = REGION_SHM, DEFAULTS}, "-M/--shm"},
		{{.kind = REGION_SHM, .name = "", DEFAULTS}, "-M/--shm"},
		{{.kind = REGION_DIR, DEFAULTS}, "-m/--dir"},
		{{.kind = REGION_FILE, DEFAULTS}, "--file"},
		{{DEFAULTS, .reuse = true}, "--reuse"},
		{{.kind = REGION_DIR, .name = "/tmp", DEFAULTS, .reuse = true}, "--reuse"},
		{{.kind = REGION_SHM, .name = "x", DEFAULTS, .huge_page = 2 * MiB}, "--huge-pages"},
		{{.kind = REGION_DIR, .name = "/tmp", DEFAULTS, .huge_page = 2 * MiB},
			"--huge-pages"},
		{{.kind = REGION_FILE, .name = "x", DEFAULTS, .huge_page = 2 * MiB},
			"--huge-pages"},
		{{DEFAULTS, .huge_page = 3 * MiB}, "--huge-pages"},
		{{DEFAULTS, .huge_page = 4096}, "--huge-pages"},
		{{.kind = REGION_FILE, .name = "x", .numa_node = 0}, "--numa-node"},
		{{.size = 4096, .numa_node = 1023}, "--numa-node"},
		{{.size = 4096, .numa_node = 5000}, "--numa-node"},
		{{.size = 4096, .numa_node = -2}, "--numa-node"},
		{{.kind = REGION_DIR, .name = "/var/tmp", .size = 4096, .numa_node = 0},
			"--numa-node"},
		{{.kind = REGION_FILE, .name = "x", DEFAULTS, .mode = 0600}, "--region-mode"},
		{{.kind = REGION_DIR, .name = "/tmp", .numa_node = -1}, "-l/--size"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refuse(&cases[i].config, -EINVAL, cases[i].option);
}

static void test_numa_policy_stays_with_the_object(void **state)
{
	(void)state;
	struct region region = create(&(struct region_config){.size = 4 * MiB, .numa_node = 0});
	void *address;
	uint64_t size;
	bool sealed;
	assert_int_equal(region_map(region.fd, 0, false, &address, &size, &sealed), 0);
	int mode = -1;
	unsigned long nodes[16] = {0};
	assert_int_equal(syscall(SYS_get_mempolicy, &mode, nodes, 1024UL, address, MPOL_F_ADDR), 0);
	assert_int_equal(mode, MPOL_BIND);
	assert_int_equal(nodes[0], 1);
	region_unmap(address, size);
	region_fini(&region);
}

/* ---- huge pages ---- */

static void test_huge_pages_round_the_size_up(void **state)
{
	(void)state;
	struct region_config config = {
		.size = 4096, .numa_node = -1, .huge_page = 2 * MiB, .no_prealloc = true};
	struct region region = create(&config);
	assert_int_equal(region.size, 2 * MiB);
	assert_int_equal(region.granule, 2 * MiB);
	region_fini(&region);
}

static void test_too_few_huge_pages_say_how_to_reserve_them(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS, .huge_page = 2 * MiB};
	config.size = 512 * TiB;
	struct region_error error = refuse(&config, -ENOMEM, "-l/--size");
	assert_has(error.text, "free huge pages of 2 MiB");
	assert_has(error.text, " > " HUGE_2M "nr_hugepages");
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
		TEST(test_sizes_round_up_to_a_power_of_two),
		TEST(test_absurd_sizes_are_refused_before_anything_is_allocated),
		TEST(test_reserve_is_kept_free),
		TEST(test_file_size_limit_is_an_error_not_a_signal),
		TEST(test_no_prealloc_allocates_nothing),
		TEST(test_memfd_is_rounded_allocated_private_and_sealed),
		TEST(test_memfd_larger_than_one_step_is_allocated_whole),
		TEST(test_budget_is_asked_again_before_each_step),
		TEST(test_allocation_that_fails),
		TEST(test_mode_is_what_was_asked_for),
		TEST(test_shm_is_created_exclusively_and_removed),
		TEST(test_shm_of_somebody_else_by_now_is_not_removed),
		TEST(test_failed_start_removes_the_shm_it_created),
		TEST(test_reuse_adopts_and_changes_nothing),
		TEST(test_shm_names),
		TEST(test_dir_holds_no_name),
		TEST(test_dir_that_cannot_be_used),
		TEST(test_dir_on_a_full_file_system),
		TEST(test_file_is_used_as_it_is),
		TEST(test_impossible_combinations_name_the_option),
		TEST(test_numa_policy_stays_with_the_object),
		TEST(test_huge_pages_round_the_size_up),
		TEST(test_too_few_huge_pages_say_how_to_reserve_them),
	};
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, no_shm_left);
}
