/* SPDX-License-Identifier: MIT */
#include "../../tools/server/metrics/openmetrics.h"

#include "../common/fdcheck.h"

#include <stdio.h>
#include <string.h>

static const struct openmetrics_family gauge = {
	.name = "room_bytes", .unit = "bytes", .help = "How much."};
static const struct openmetrics_family counter = {
	.name = "joins", .kind = OPENMETRICS_COUNTER, .help = "How often."};
static const struct openmetrics_family info = {
	.name = "build", .kind = OPENMETRICS_INFO, .help = "What."};
static const struct openmetrics_family seconds = {
	.name = "age_seconds", .unit = "seconds", .thousandths = true, .help = "How long."};

static char bytes[512];

static struct openmetrics_text text_of(size_t size)
{
	memset(bytes, '#', sizeof(bytes));
	return (struct openmetrics_text){.bytes = bytes, .size = size};
}

static void expect(const struct openmetrics_text *text, const char *wanted)
{
	assert_int_equal(text->used, strlen(wanted));
	assert_memory_equal(text->bytes, wanted, text->used);
	assert_int_equal(text->bytes[text->used], '#'); /* nothing behind it */
}

static void expect_description(enum openmetrics_dialect dialect,
	const struct openmetrics_family *family, const char *wanted)
{
	struct openmetrics_text text = text_of(sizeof(bytes));
	assert_true(openmetrics_describe(&text, dialect, family));
	expect(&text, wanted);
}

static void test_families(void **state)
{
	(void)state;
	expect_description(OPENMETRICS_1_0, &gauge,
		"# TYPE room_bytes gauge\n# UNIT room_bytes bytes\n# HELP room_bytes How much.\n");
	expect_description(
		OPENMETRICS_1_0, &counter, "# TYPE joins counter\n# HELP joins How often.\n");
	expect_description(OPENMETRICS_1_0, &info, "# TYPE build info\n# HELP build What.\n");
}

/* What node_exporter rejects: "info", and names of families that are not those of the samples. */
static void test_families_of_a_textfile(void **state)
{
	(void)state;
	expect_description(OPENMETRICS_TEXTFILE, &gauge,
		"# TYPE room_bytes gauge\n# HELP room_bytes How much.\n");
	expect_description(OPENMETRICS_TEXTFILE, &counter,
		"# TYPE joins_total counter\n# HELP joins_total How often.\n");
	expect_description(
		OPENMETRICS_TEXTFILE, &info, "# TYPE build_info gauge\n# HELP build_info What.\n");
}

static void expect_sample(const struct openmetrics_family *family,
	const struct openmetrics_label *labels, size_t n, uint64_t value, const char *wanted)
{
	struct openmetrics_text text = text_of(sizeof(bytes));
	assert_true(openmetrics_sample(&text, family, labels, n, value));
	expect(&text, wanted);
}

static void test_samples(void **state)
{
	const struct openmetrics_label labels[] = {{"region", "a.b-c_0"}, {"peer", "7"}};

	(void)state;
	expect_sample(&gauge, NULL, 0, 0, "room_bytes 0\n");
	expect_sample(&gauge, NULL, 0, UINT64_MAX, "room_bytes 18446744073709551615\n");
	expect_sample(&counter, labels, 1, 5, "joins_total{region=\"a.b-c_0\"} 5\n");
	expect_sample(&info, labels, 2, 1, "build_info{region=\"a.b-c_0\",peer=\"7\"} 1\n");
}

static void test_thousandths(void **state)
{
	(void)state;
	expect_sample(&seconds, NULL, 0, 0, "age_seconds 0.000\n");
	expect_sample(&seconds, NULL, 0, 7, "age_seconds 0.007\n");
	expect_sample(&seconds, NULL, 0, 1500000000123, "age_seconds 1500000000.123\n");
	expect_sample(&seconds, NULL, 0, UINT64_MAX, "age_seconds 18446744073709551.615\n");
}

static void expect_escaped(const char *value, const char *wanted)
{
	const struct openmetrics_label label = {"l", value};
	char line[128];
	snprintf(line, sizeof(line), "joins_total{l=\"%s\"} 1\n", wanted);
	expect_sample(&counter, &label, 1, 1, line);
}

static void test_label_values_cannot_break_out(void **state)
{
	(void)state;
	expect_escaped("", "");
	expect_escaped("\"} 9\nevil 1", "\\\"} 9\\nevil 1");
	expect_escaped("C:\\n", "C:\\\\n");
	expect_escaped("\r\x01\x7f\xff\xc3\xa9", "??????");
}

static void test_what_does_not_fit_is_left_out_whole(void **state)
{
	const struct openmetrics_label label = {"region", "\"quoted\""};
	struct openmetrics_text text = text_of(sizeof(bytes));

	(void)state;
	assert_true(openmetrics_describe(&text, OPENMETRICS_1_0, &gauge));
	assert_true(openmetrics_sample(&text, &gauge, &label, 1, 12345));
	size_t whole = text.used, description = 0;
	for (size_t size = 0; size < whole; size++) {
		text = text_of(size);
		if (openmetrics_describe(&text, OPENMETRICS_1_0, &gauge))
			description = text.used;
		assert_true(text.used == 0 || text.used == description);
		assert_false(openmetrics_sample(&text, &gauge, &label, 1, 12345) &&
			text.used > description && description > 0);
		assert_true(text.used <= size);
		assert_int_equal(bytes[size], '#');
	}
	assert_true(description > 0 && description < whole);
}

static void test_end(void **state)
{
	struct openmetrics_text text = text_of(sizeof(bytes));

	(void)state;
	assert_true(openmetrics_end(&text, OPENMETRICS_1_0));
	expect(&text, "# EOF\n");
	text = text_of(sizeof(bytes));
	assert_true(openmetrics_end(&text, OPENMETRICS_TEXTFILE));
	expect(&text, "");
	text = text_of(5);
	assert_false(openmetrics_end(&text, OPENMETRICS_1_0));
	expect(&text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_families),
		TEST(test_families_of_a_textfile),
		TEST(test_samples),
		TEST(test_thousandths),
		TEST(test_label_values_cannot_break_out),
		TEST(test_what_does_not_fit_is_left_out_whole),
		TEST(test_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
