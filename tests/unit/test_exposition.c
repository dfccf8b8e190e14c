/* SPDX-License-Identifier: MIT */
#include "../../tools/server/metrics/exposition.h"

#include "../common/fakehub.h"
#include "../common/fdcheck.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES (4u << 20)

struct page {
	struct hub *hub;
	struct exposition exposition;
	char *text;
};

static int setup(void **state)
{
	struct page *page = calloc(1, sizeof(*page));
	page->text = malloc(PAGE_BYTES);
	*state = page;
	fdcheck_setup(NULL);
	page->hub = fakehub_create();
	exposition_init(&page->exposition, page->hub, false);
	return 0;
}

static int teardown(void **state)
{
	struct page *page = *state;
	exposition_fini(&page->exposition);
	fakehub_destroy(page->hub);
	free(page->text);
	free(page);
	return fdcheck_teardown(NULL);
}

#define PAGE_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* Read to the end, `step` bytes at a time. */
static void read_on(struct page *page, struct exposition_reader *reader, size_t used, size_t step)
{
	size_t n;
	while ((n = exposition_read(reader, page->text + used, step)) > 0) {
		assert_true(n <= step);
		used += n;
		assert_true(used + step < PAGE_BYTES);
	}
	page->text[used] = '\0';
	exposition_close(reader);
}

static const char *read_page(struct page *page, enum openmetrics_dialect dialect, size_t step)
{
	read_on(page, exposition_open(&page->exposition, dialect), 0, step);
	return page->text;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;
	for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

/* The number after this at the beginning of a line. */
static double number(const char *text, const char *name)
{
	char line[128];
	snprintf(line, sizeof(line), "\n%s ", name);
	const char *at = strstr(text, line);
	if (!at)
		fail_msg("no %s in:\n%s", name, text);
	return strtod(at + strlen(line), NULL);
}

static void test_numbers_of_a_region(void **state)
{
	struct page *page = *state;
	struct hosted *hosted = fakehub_add(page->hub, "frames");

	hosted->stats = (struct server_stats){.joins = 10,
		.leaves = 7,
		.evictions = 2,
		.refusals = 4,
		.messages = UINT64_MAX,
		.peers = 3,
		.quarantined = 1,
		.restarts = 5,
		.lost_in_accept = 6};
	hosted->backlog = (struct server_backlog){.queued = 99, .waiting = 2, .oldest_ms = 1250};
	hosted->spec.server.vectors = 8;
	hosted->spec.server.max_peers = 16;
	hosted->region.size = 1 << 20;
	hosted->draining = true;
	const char *text = read_page(page, OPENMETRICS_1_0, 4096);

	const char *begin = "# TYPE ivshmem_region_peers gauge\n"
			    "# HELP ivshmem_region_peers Peers that are connected.\n"
			    "ivshmem_region_peers{region=\"frames\"} 3\n";
	assert_memory_equal(text, begin, strlen(begin));
	const struct {
		const char *name;
		double value;
	} wanted[] = {
		{"max_peers", 16},
		{"vectors", 8},
		{"size_bytes", 1 << 20},
		{"joins_total", 10},
		{"leaves_total", 7},
		{"evictions_total", 2},
		{"refusals_total", 4},
		{"messages_total", (double)UINT64_MAX},
		{"queued_messages", 99},
		{"waiting_peers", 2},
		{"stalled_seconds", 1.25},
		{"quarantined_ids", 1},
		{"restarts_total", 5},
		{"lost_in_accept_total", 6},
		{"draining", 1},
	};
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		char name[80];
		snprintf(
			name, sizeof(name), "ivshmem_region_%s{region=\"frames\"}", wanted[i].name);
		assert_true(number(text, name) == wanted[i].value);
	}
	assert_int_equal(count(text, "{region="), 16);
	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
}

static void test_numbers_of_the_process(void **state)
{
	struct page *page = *state;
	const char *text = read_page(page, OPENMETRICS_1_0, 4096);

	assert_true(count(text, "\nivshmem_build_info{version=\"") == 1);
	assert_true(number(text, "ivshmem_process_open_fds") == fdcheck_count());
	assert_true(number(text, "ivshmem_process_max_fds") == (double)sysconf(_SC_OPEN_MAX));
	assert_true(number(text, "ivshmem_process_resident_memory_bytes") > 65536);
	assert_true(number(text, "ivshmem_process_start_time_seconds") > 1.7e9);
	assert_true(number(text, "ivshmem_process_cpu_seconds_total") >= 0);
}

/* The older way of counting, with a gap, and with more than one block. */
static void test_descriptors_one_by_one(void **state)
{
	struct page *page = *state;
	struct descriptor_count count = {0};
	int low = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int high = fcntl(low, F_DUPFD_CLOEXEC, 3000);
	unsigned steps = 1;

	assert_true(high >= 3000);
	page->exposition.process.one_by_one = true;
	while (!descriptor_count_on(&count, &page->exposition.process))
		steps++;
	assert_true(steps > 1);
	assert_int_equal(count.found, fdcheck_count());
	close(low);
	close(high);
}

/* Reads share the work: while descriptors are being counted, each gives a line at most. */
static void test_page_while_counting(void **state)
{
	struct page *page = *state;
	int low = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int high = fcntl(low, F_DUPFD_CLOEXEC, 3000);

	page->exposition.process.one_by_one = true;
	fakehub_add(page->hub, "a");
	struct exposition_reader *reader = exposition_open(&page->exposition, OPENMETRICS_1_0);
	size_t n = exposition_read(reader, page->text, 4096);
	page->text[n] = '\0';
	assert_string_equal(page->text,
		"# TYPE ivshmem_region_peers gauge\n"
		"# HELP ivshmem_region_peers Peers that are connected.\n");
	read_on(page, reader, n, 4096);
	assert_true(number(page->text, "ivshmem_process_open_fds") == fdcheck_count());
	assert_true(number(page->text, "ivshmem_region_peers{region=\"a\"}") == 0);
	close(low);
	close(high);
}

static void test_pieces_of_any_size(void **state)
{
	struct page *page = *state;

	fakehub_set_peers(fakehub_add(page->hub, "a"), 3);
	fakehub_set_peers(fakehub_add(page->hub, "b"), 0);
	page->exposition.peers = true;
	char *whole = strdup(read_page(page, OPENMETRICS_1_0, 65536));
	size_t stable = (size_t)(strstr(whole, "ivshmem_process_resident") - whole);
	for (size_t step = 1; step < 300; step += 13) {
		read_page(page, OPENMETRICS_1_0, step);
		assert_memory_equal(page->text, whole, stable);
	}
	free(whole);
}

static void test_no_regions(void **state)
{
	struct page *page = *state;
	const char *text = read_page(page, OPENMETRICS_1_0, 4096);
	assert_int_equal(count(text, "{region="), 0);
	assert_int_equal(count(text, "# EOF\n"), 1);
}

static void test_textfile(void **state)
{
	struct page *page = *state;
	fakehub_add(page->hub, "a");
	const char *text = read_page(page, OPENMETRICS_TEXTFILE, 4096);
	assert_int_equal(count(text, "# EOF"), 0);
	assert_int_equal(count(text, "# UNIT"), 0);
	assert_int_equal(count(text, " info\n"), 0);
	assert_int_equal(count(text, "# TYPE ivshmem_region_joins_total counter\n"), 1);
	assert_int_equal(count(text, "ivshmem_region_joins_total{region=\"a\"} 0\n"), 1);
}

static void test_regions_that_come_and_go_meanwhile(void **state)
{
	struct page *page = *state;
	struct hosted *going;

	fakehub_add(page->hub, "a");
	going = fakehub_add(page->hub, "b");
	fakehub_add(page->hub, "c");
	struct exposition_reader *reader = exposition_open(&page->exposition, OPENMETRICS_1_0);
	size_t n = exposition_read(reader, page->text, 300); /* beyond the first family */
	assert_int_equal(n, 300);
	going->gone = true;
	fakehub_add(page->hub, "d");
	read_on(page, reader, n, 4096);
	assert_int_equal(count(page->text, "{region=\"a\"}"), 16);
	assert_true(count(page->text, "{region=\"b\"}") < 3);
	assert_int_equal(count(page->text, "{region=\"c\"}"), 16);
	assert_true(count(page->text, "{region=\"d\"}") >= 13);
}

static void test_peers_only_if_asked_for(void **state)
{
	struct page *page = *state;
	struct hosted *hosted = fakehub_add(page->hub, "a");

	fakehub_set_peers(hosted, 200);
	fakehub_set_peers(fakehub_add(page->hub, "b"), 1);
	hosted->loads[150].queued = 12;
	hosted->loads[150].sent = 34;
	hosted->loads[150].waiting_ms = 5600;
	hosted->loads[150].descriptors = 3;
	assert_int_equal(count(read_page(page, OPENMETRICS_1_0, 4096), "ivshmem_peer"), 0);

	page->exposition.peers = true;
	const char *text = read_page(page, OPENMETRICS_1_0, 4096);
	for (unsigned i = 0; i < 200; i++) {
		char labels[64];
		snprintf(labels, sizeof(labels), "{region=\"a\",peer=\"%u\",uid=\"1000\"}", i);
		assert_int_equal(count(text, labels), 4);
	}
	assert_int_equal(count(text, "{region=\"b\",peer=\"0\",uid=\"1000\"}"), 4);
#define PEER "{region=\"a\",peer=\"150\",uid=\"1000\"}"
	assert_true(number(text, "ivshmem_peer_queued_messages" PEER) == 12);
	assert_true(number(text, "ivshmem_peer_messages_total" PEER) == 34);
	assert_true(number(text, "ivshmem_peer_stalled_seconds" PEER) == 5.6);
	assert_true(number(text, "ivshmem_peer_descriptors" PEER) == 3);
}

/* While its peers are being listed: nobody gets another region's name. */
static void test_a_region_that_goes_with_its_peers(void **state)
{
	struct page *page = *state;
	struct hosted *going = fakehub_add(page->hub, "a");

	fakehub_set_peers(going, 200);
	fakehub_set_peers(fakehub_add(page->hub, "b"), 2);
	page->exposition.peers = true;
	struct exposition_reader *reader = exposition_open(&page->exposition, OPENMETRICS_1_0);
	size_t n = 0;
	do {
		n += exposition_read(reader, page->text + n, 10);
		page->text[n] = '\0';
	} while (count(page->text, "ivshmem_peer_queued_messages{") < 10);
	going->gone = true;
	read_on(page, reader, n, 4096);
	assert_int_equal(count(page->text, "{region=\"b\",peer=\"0\",uid=\"1000\"}"), 4);
	assert_int_equal(count(page->text, "{region=\"b\",peer=\"1\",uid=\"1000\"}"), 4);
	assert_int_equal(count(page->text, "{region=\"b\",peer="), 8);
	assert_true(count(page->text, "{region=\"a\",peer=") <= 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAGE_TEST(test_numbers_of_a_region),
		PAGE_TEST(test_numbers_of_the_process),
		PAGE_TEST(test_descriptors_one_by_one),
		PAGE_TEST(test_page_while_counting),
		PAGE_TEST(test_pieces_of_any_size),
		PAGE_TEST(test_no_regions),
		PAGE_TEST(test_textfile),
		PAGE_TEST(test_regions_that_come_and_go_meanwhile),
		PAGE_TEST(test_peers_only_if_asked_for),
		PAGE_TEST(test_a_region_that_goes_with_its_peers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
