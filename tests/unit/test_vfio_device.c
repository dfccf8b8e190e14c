/* SPDX-License-Identifier: MIT */
/* The device as a whole: a function for a VMM and a peer of a server, which a test plays. */
#include "../common/fdcheck.h"
#include "../common/scripted.h"

#include "base/le.h"
#include "vfio-user/device.h"

#include <linux/kcmp.h>
#include <sys/mman.h>

#define REGION_SIZE UINT64_C(65536)

static int region, bells[8];

/* ---- what was logged ---- */

static unsigned lines;
static char last_line[600];

static void keep_line(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	lines++;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static struct log test_log = {.level = LOG_LEVEL_INFO, .sink = keep_line};

#define assert_logged(n, part)                                                                     \
	do {                                                                                       \
		assert_int_equal(lines, n);                                                        \
		assert_non_null(strstr(last_line, part));                                          \
		lines = 0;                                                                         \
	} while (0)

/* ---- devices ---- */

static struct vfu_board board;

static int set_up(void **state)
{
	fdcheck_setup(state);
	region = scripted_region(REGION_SIZE);
	for (size_t i = 0; i < sizeof(bells) / sizeof(bells[0]); i++)
		bells[i] = scripted_bell();
	vfu_board_init(&board);
	lines = 0;
	last_line[0] = '\0';
	return 0;
}

static int tear_down(void **state)
{
	close(region);
	for (size_t i = 0; i < sizeof(bells) / sizeof(bells[0]); i++)
		close(bells[i]);
	return fdcheck_teardown(state);
}

static struct vfu_device_config doorbell(void)
{
	return (struct vfu_device_config){
		.name = "dev", .type = VFU_DOORBELL, .vectors = 2, .msi = true};
}

static struct vfu_device_config legacy_intx(uint64_t size)
{
	return (struct vfu_device_config){
		.name = "dev", .type = VFU_LEGACY, .vectors = 1, .size = size};
}

/* Make a device on a server that says `script` as its opening. */
static int try_on(struct vfu_device **device, struct scripted *server,
	struct vfu_device_config config, const struct line *script, size_t n_lines)
{
	server->lines = script;
	server->n_lines = n_lines;
	scripted_start(server);
	config.uri = server->uri;
	int error = vfu_device_create(device, &board, &config, &test_log);
	scripted_join(server);
	return error;
}

/* The usual: ID `id`, a region, two own vectors that are bells[own] and its successor. */
static struct vfu_device *make_on(
	struct scripted *server, struct vfu_device_config config, int id, int own)
{
	const struct line script[] = {
		{0, -1}, {id, -1}, {-1, region}, {id, bells[own]}, {id, bells[own + 1]}};
	struct vfu_device *device = NULL;
	assert_int_equal(try_on(&device, server, config, script, 5), 0);
	vfu_device_dispatch(device);
	return device;
}

static uint32_t read32(struct vfu_device *device, unsigned bar, uint64_t offset)
{
	uint8_t bytes[4];
	vfu_function_read(vfu_device_function(device), bar, offset, bytes, 4);
	return (uint32_t)load_le(bytes, 4);
}

static void write32(struct vfu_device *device, unsigned bar, uint64_t offset, uint32_t value)
{
	uint8_t bytes[4];
	store_le(bytes, 4, value);
	vfu_function_write(vfu_device_function(device), bar, offset, bytes, 4);
}

static uint32_t position(struct vfu_device *device)
{
	return read32(device, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_IVPOSITION);
}

static void ring(struct vfu_device *device, unsigned peer, unsigned vector)
{
	write32(device, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_DOORBELL,
		IVSHMEM_DOORBELL(peer, vector));
}

/* A VMM that takes interrupts of `vector` by the eventfd that is returned: the test's end. */
static int attach(struct vfu_device *device, unsigned vector)
{
	const struct vfu_set_irqs set = {
		.flags = VFU_DATA_EVENTFD | VFU_ACTION_TRIGGER,
		.index = VFU_MSIX,
		.start = vector,
		.count = 1,
	};
	struct vfu_function *function = vfu_device_function(device);
	int mine = scripted_bell(), theirs = dup(mine);
	assert_int_equal(vfu_irqs_set(&function->irqs, &set, NULL, 0, &theirs, 1), 0);
	vfu_function_write(function, VFU_REGION_CONFIG, 0x42, (const uint8_t[]){0, 0x80}, 2);
	return mine;
}

/* ---- tests ---- */

static void test_doorbell_device_is_a_peer(void **state)
{
	(void)state;
	struct scripted server = {0};
	struct vfu_device *device = make_on(&server, doorbell(), 7, 0);
	const struct vfu_function *function = vfu_device_function(device);
	unsigned char *seen = mmap(NULL, REGION_SIZE, PROT_READ, MAP_SHARED, region, 0);

	assert_int_equal(vfu_device_id(device), 7);
	assert_int_equal(position(device), 7);
	assert_int_equal(vfu_function_region_size(function, IVSHMEM_BAR_MEMORY), REGION_SIZE);
	assert_true(function->memory.fd >= 0);
	assert_int_equal(ivshmem_pci_vectors(function->pci), 2);
	write32(device, IVSHMEM_BAR_MEMORY, 4096, 0xa1b2c3d4);
	assert_int_equal(load_le(seen + 4096, 4), 0xa1b2c3d4);

	int interrupt = attach(device, 1);
	assert_int_equal(eventfd_write(bells[1], 5), 0);
	vfu_device_dispatch(device);
	assert_true(scripted_rung(interrupt));
	assert_false(scripted_rung(interrupt));

	munmap(seen, REGION_SIZE);
	close(interrupt);
	vfu_device_destroy(device);
	scripted_stop(&server);
}

static void test_guest_rings_itself_and_others(void **state)
{
	(void)state;
	struct scripted server = {0};
	struct vfu_device *device = make_on(&server, doorbell(), 7, 0);
	struct vfu_device_stats stats;
	int interrupt = attach(device, 1);

	scripted_say(&server, 9, bells[2]);
	vfu_device_dispatch(device);
	ring(device, 9, 0);
	assert_true(scripted_rung(bells[2]));
	ring(device, 7, 1);
	assert_true(scripted_rung(interrupt));
	assert_false(scripted_rung(bells[1]));
	/* Nobody there, or not there. */
	ring(device, 9, 1);
	ring(device, 8, 0);
	ring(device, 0xffff, 0xffff);
	ring(device, 7, 2);
	vfu_device_get_stats(device, &stats);
	assert_int_equal(stats.relayed, 1);
	assert_int_equal(stats.interrupts, 1);

	close(interrupt);
	vfu_device_destroy(device);
	scripted_stop(&server);
}

/* A server with fewer vectors than the device: those that it has not given do not work. */
static void test_own_vector_that_the_server_lacks(void **state)
{
	(void)state;
	struct scripted server = {0};
	const struct line script[] = {{0, -1}, {7, -1}, {-1, region}, {7, bells[0]}};
	struct vfu_device *device;
	assert_int_equal(try_on(&device, &server, doorbell(), script, 4), 0);
	vfu_device_dispatch(device);
	int first = attach(device, 0), second = attach(device, 1);
	ring(device, 7, 0);
	ring(device, 7, 1);
	assert_true(scripted_rung(first));
	assert_false(scripted_rung(second));
	close(first);
	close(second);
	vfu_device_destroy(device);
	scripted_stop(&server);
}

static bool has_kcmp(void)
{
	long self = getpid();
	return syscall(SYS_kcmp, self, self, (long)KCMP_FILE, (long)region, (long)region) == 0;
}

static void test_neighbours_have_no_hop(void **state)
{
	(void)state;
	struct scripted server_a = {0}, server_b = {0};
	struct vfu_device *a = make_on(&server_a, doorbell(), 7, 0);
	struct vfu_device *b = make_on(&server_b, doorbell(), 8, 2);
	struct vfu_device_stats stats;
	int interrupt = attach(b, 1);

	scripted_say(&server_a, 8, bells[2]);
	scripted_say(&server_a, 8, bells[3]);
	vfu_device_dispatch(a);
	if (has_kcmp()) {
		ring(a, 8, 1);
		assert_true(scripted_rung(interrupt));
		assert_false(scripted_rung(bells[3]));
		vfu_device_get_stats(a, &stats);
		assert_int_equal(stats.direct, 1);
		assert_int_equal(stats.relayed, 0);
		vfu_device_get_stats(b, &stats);
		assert_int_equal(stats.received, 1);
	}
	/* Not there any more: the long way, to whoever holds the eventfd. */
	vfu_device_destroy(b);
	ring(a, 8, 1);
	assert_true(scripted_rung(bells[3]));
	assert_false(scripted_rung(interrupt));

	close(interrupt);
	vfu_device_destroy(a);
	scripted_stop(&server_a);
	scripted_stop(&server_b);
}

/* The same ID on another server is somebody else. */
static void test_same_id_elsewhere_is_no_neighbour(void **state)
{
	(void)state;
	struct scripted server_a = {0}, server_b = {0};
	struct vfu_device *a = make_on(&server_a, doorbell(), 7, 0);
	struct vfu_device *b = make_on(&server_b, doorbell(), 8, 2);
	int interrupt = attach(b, 0);

	scripted_say(&server_a, 8, bells[5]);
	vfu_device_dispatch(a);
	ring(a, 8, 0);
	assert_true(scripted_rung(bells[5]));
	vfu_device_dispatch(b);
	assert_false(scripted_rung(interrupt));

	close(interrupt);
	vfu_device_destroy(a);
	vfu_device_destroy(b);
	scripted_stop(&server_a);
	scripted_stop(&server_b);
}

static void test_lost_server_is_one_line_and_nothing_else(void **state)
{
	(void)state;
	struct scripted server = {0};
	struct vfu_device *device = make_on(&server, doorbell(), 7, 0);
	int interrupt = attach(device, 0);

	scripted_say(&server, 9, bells[2]);
	vfu_device_dispatch(device);
	lines = 0;
	scripted_hang_up(&server);
	for (int i = 0; i < 3; i++)
		vfu_device_dispatch(device);
	assert_logged(1, "server is gone");
	ring(device, 9, 0);
	assert_true(scripted_rung(bells[2]));
	assert_int_equal(eventfd_write(bells[0], 1), 0);
	vfu_device_dispatch(device);
	assert_true(scripted_rung(interrupt));
	assert_int_equal(position(device), 7);

	close(interrupt);
	vfu_device_destroy(device);
	scripted_stop(&server);
}

/* What does not fit is refused with a line that says what to do; nothing is left behind. */
static void test_sizes(void **state)
{
	(void)state;
	struct vfu_device *device;
	int odd = scripted_region(12288), tiny = scripted_region(2048);
	const struct {
		int region;
		struct vfu_device_config config;
		const char *said;
	} cases[] = {
		{odd, doorbell(), "12 KiB of memory: a BAR's size is a power of two"},
		{odd, doorbell(), "create a region of 16 KiB"},
		{tiny, doorbell(), "create a region of 4 KiB"},
		{region, legacy_intx(2 * REGION_SIZE), "has 64 KiB and the device's size is 128"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct scripted server = {0};
		const struct line script[] = {{0, -1}, {7, -1}, {-1, cases[i].region}};
		assert_int_equal(try_on(&device, &server, cases[i].config, script, 3), -EINVAL);
		assert_logged(1, cases[i].said);
		scripted_stop(&server);
	}
	assert_true(list_empty(&board.devices));

	/* Its start is enough. */
	struct scripted server = {0};
	device = make_on(&server, legacy_intx(4096), 7, 0);
	const struct vfu_function *function = vfu_device_function(device);
	assert_int_equal(vfu_function_region_size(function, IVSHMEM_BAR_MEMORY), 4096);
	assert_true(function->memory.fd >= 0);
	vfu_device_destroy(device);
	scripted_stop(&server);
	close(odd);
	close(tiny);
}

static void test_plain_device_and_types_that_do_not_fit(void **state)
{
	(void)state;
	struct vfu_device *device;
	char uri[64];
	struct vfu_device_config config = {.name = "dev", .type = VFU_PLAIN, .uri = uri};

	snprintf(uri, sizeof(uri), "file:/proc/self/fd/%d", region);
	assert_int_equal(vfu_device_create(&device, &board, &config, &test_log), 0);
	assert_int_equal(position(device), 0);
	assert_int_equal(vfu_device_fd(device), -1);
	assert_int_equal(ivshmem_pci_vectors(vfu_device_function(device)->pci), 0);
	ring(device, 0, 0);
	vfu_device_dispatch(device);
	write32(device, IVSHMEM_BAR_MEMORY, 0, 1);
	assert_int_equal(read32(device, IVSHMEM_BAR_MEMORY, 0), 1);
	vfu_device_destroy(device);

	config.type = VFU_DOORBELL;
	config.vectors = 1;
	assert_int_equal(vfu_device_create(&device, &board, &config, &test_log), -EINVAL);
	assert_logged(1, "needs a server");
	snprintf(uri, sizeof(uri), "file:/nonexistent");
	assert_int_equal(vfu_device_create(&device, &board, &config, &test_log), -ENOENT);
	assert_logged(1, "/nonexistent");

	struct scripted server = {0};
	const struct line script[] = {{0, -1}, {7, -1}, {-1, region}};
	config.type = VFU_PLAIN;
	assert_int_equal(try_on(&device, &server, config, script, 3), -EINVAL);
	assert_logged(1, "has no server");
	scripted_stop(&server);
}

static void test_read_only_memory(void **state)
{
	(void)state;
	struct scripted server = {0};
	struct vfu_device_config config = doorbell();
	config.read_only = true;
	struct vfu_device *device = make_on(&server, config, 7, 0);

	assert_int_equal(pwrite(region, "abcd", 4, 8), 4);
	write32(device, IVSHMEM_BAR_MEMORY, 8, 0);
	assert_int_equal(read32(device, IVSHMEM_BAR_MEMORY, 8), 0x64636261);
	/* A descriptor would be one to open again for writing. */
	assert_int_equal(vfu_device_function(device)->memory.fd, -1);
	vfu_device_destroy(device);
	scripted_stop(&server);
}

static void test_late_server(void **state)
{
	(void)state;
	struct scripted server = {0};
	struct vfu_device *device;
	struct vfu_attempt attempt = {.peer = NULL};
	struct vfu_device_config config = legacy_intx(4096);
	config.late = true;
	scripted_listen(&server, 8);
	config.uri = server.uri;
	scripted_stop(&server);
	assert_int_equal(vfu_device_create(&device, &board, &config, &test_log), 0);

	assert_true(vfu_device_is_waiting(device));
	assert_int_equal(position(device), IVSHMEM_POSITION_NONE);
	write32(device, IVSHMEM_BAR_MEMORY, 0, 1);
	assert_int_equal(read32(device, IVSHMEM_BAR_MEMORY, 0), 0);
	assert_int_equal(vfu_device_function(device)->memory.fd, -1);
	ring(device, 0, 0);
	lines = 0;
	for (int i = 0; i < 3; i++) {
		vfu_device_join(device, &attempt);
		assert_false(vfu_device_joined(device, &attempt));
	}
	assert_logged(1, "waits for its server");

	/* Now it is there, where the device looks for it. */
	const struct line script[] = {{0, -1}, {7, -1}, {-1, region}, {7, bells[0]}};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, server.path, sizeof(server.path));
	server.lines = script;
	server.n_lines = 4;
	server.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server.listener, 1), 0);
	assert_int_equal(pthread_create(&server.thread, NULL, scripted_play, &server), 0);
	vfu_device_join(device, &attempt);
	scripted_join(&server);
	assert_int_equal(position(device), IVSHMEM_POSITION_NONE);
	assert_true(vfu_device_joined(device, &attempt));

	assert_logged(1, "ID 7");
	assert_false(vfu_device_is_waiting(device));
	assert_int_equal(position(device), 7);
	assert_int_equal(pwrite(region, "abcd", 4, 8), 4);
	assert_int_equal(read32(device, IVSHMEM_BAR_MEMORY, 8), 0x64636261);
	assert_true(vfu_device_function(device)->memory.fd >= 0); /* for VMMs to come */
	vfu_device_dispatch(device);
	write32(device, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 1);
	assert_int_equal(eventfd_write(bells[0], 1), 0);
	vfu_device_dispatch(device);
	assert_int_equal(ivshmem_pci_line(vfu_device_function(device)->pci), 1);
	vfu_device_destroy(device);
	scripted_stop(&server);
}

static void test_late_server_with_too_little(void **state)
{
	(void)state;
	struct scripted server = {0};
	const struct line script[] = {{0, -1}, {7, -1}, {-1, region}};
	struct vfu_device *device;
	struct vfu_attempt attempt = {.peer = NULL};
	struct vfu_device_config config = legacy_intx(2 * REGION_SIZE);
	config.late = true;
	server.lines = script;
	server.n_lines = 3;
	scripted_start(&server);
	config.uri = server.uri;
	assert_int_equal(vfu_device_create(&device, &board, &config, &test_log), 0);
	vfu_device_join(device, &attempt);
	scripted_join(&server);
	assert_true(vfu_device_joined(device, &attempt));
	assert_logged(1, "has 64 KiB");
	assert_false(vfu_device_is_waiting(device));
	assert_int_equal(position(device), IVSHMEM_POSITION_NONE);
	assert_int_equal(read32(device, IVSHMEM_BAR_MEMORY, 0), 0);
	assert_int_equal(vfu_device_fd(device), -1);
	vfu_device_destroy(device);
	scripted_stop(&server);
}

/* A server that sends descriptors without end can't take those of the other devices. */
static void test_servers_share_of_descriptors(void **state)
{
	(void)state;
	struct scripted server = {0};
	struct vfu_device_config config = doorbell();
	config.max_fds = 40;
	struct vfu_device *device = make_on(&server, config, 7, 0);
	int before = fdcheck_count();

	for (unsigned id = 100; id < 150; id++)
		scripted_say(&server, id, bells[2]);
	for (unsigned i = 0; i < 50; i++)
		scripted_say(&server, 7, bells[3]);
	for (int i = 0; i < 3; i++)
		vfu_device_dispatch(device);
	assert_in_range(fdcheck_count() - before, 20, 28);
	ring(device, 100, 0);
	assert_true(scripted_rung(bells[2]));
	vfu_device_destroy(device);
	scripted_stop(&server);
}

static int watched;

static void watch(void *data, int fd)
{
	assert_ptr_equal(data, &watched);
	watched = fd;
}

/* What the VMM leaves behind goes; the identity stays. */
static void test_vmm_leaves(void **state)
{
	(void)state;
	struct scripted server = {0};
	struct vfu_device *device = make_on(&server, legacy_intx(0), 7, 0);
	struct vfu_function *function = vfu_device_function(device);
	const struct vfu_set_irqs set = {
		.flags = VFU_DATA_EVENTFD | VFU_ACTION_UNMASK,
		.index = VFU_INTX,
		.count = 1,
	};
	int resample = scripted_bell();

	vfu_device_set_watch(device, watch, &watched);
	assert_int_equal(vfu_irqs_set(&function->irqs, &set, NULL, 0, &resample, 1), 0);
	assert_int_equal(watched, resample);
	write32(device, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 1);
	vfu_function_release(function);
	assert_int_equal(watched, -1);
	assert_int_equal(fcntl(resample, F_GETFD), -1);
	assert_int_equal(read32(device, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK), 0);
	assert_int_equal(position(device), 7);
	vfu_device_destroy(device);
	scripted_stop(&server);
}

#define test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_doorbell_device_is_a_peer),
		test(test_guest_rings_itself_and_others),
		test(test_own_vector_that_the_server_lacks),
		test(test_neighbours_have_no_hop),
		test(test_same_id_elsewhere_is_no_neighbour),
		test(test_lost_server_is_one_line_and_nothing_else),
		test(test_sizes),
		test(test_plain_device_and_types_that_do_not_fit),
		test(test_read_only_memory),
		test(test_late_server),
		test(test_late_server_with_too_little),
		test(test_servers_share_of_descriptors),
		test(test_vmm_leaves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
