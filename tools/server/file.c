/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. libconfuse does the syntax: sections, strings, comments, unknown names. What
 * a value means is ours (settings.c): the library's part is to keep each value as text with its
 * line, so that what is wrong with it can be said later with the place, and all mistakes at once. A
 * mistake of syntax ends it; who knows what is meant from there on.
 *
 * Rules are looked at in the order of the file, but libconfuse has one list for each kind of
 * section. The line in which a section ends says how they were mixed; where two kinds end in one
 * line it does not, and that is a mistake.
 *
 * The library's callbacks have no place for a pointer of ours; so there is one reader at a time.
 */
#include "file.h"

#include "settings.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <confuse.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_VALUE    1024 /* bytes */
#define MAX_MISTAKES 20   /* then it says no more */
#define MAX_OPTIONS  32   /* of a section */
#define LINE_SIZE    600
#define SHOWN        60 /* bytes of a value in a message */

/*
 * The library takes the end of the file for the end of any section. So an option is added to the
 * text that is known at the top only: if it is not found there, something is open.
 */
#define END      "<end>"
#define END_TEXT "\n" END " = 1"

struct reader {
	const char *path;
	file_complaint *complain;
	void *data;
	unsigned lines; /* of the file */
	unsigned mistakes;
	bool twice; /* the library has let go of a value, because there is another one */
	bool no_memory;
};

static struct reader *current;

static const struct file_config defaults = {
	.control_path = IVSHMEM_SOCKET_FOLDER "/control.sock",
	.control_group = (gid_t)-1,
	.control_clients = 32,
};

/* A value as it stands in the file. */
struct value {
	unsigned line;
	char text[];
};

/* ---- mistakes ---- */

static void mistake(struct reader *reader, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void mistake(struct reader *reader, unsigned line, const char *format, ...)
{
	char text[LINE_SIZE];
	va_list args;

	if (reader->mistakes++ >= MAX_MISTAKES)
		return;
	int used = snprintf(text, sizeof(text), "%.200s:%u: ", reader->path, line);
	va_start(args, format);
	vsnprintf(text + used, sizeof(text) - (size_t)used, format, args);
	va_end(args);
	/* What is shown of the file may contain anything. */
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	reader->complain(reader->data, text);
}

/* What may stand in a section, for who has written something else. */
static void list_names(const cfg_t *section, char *list, size_t size)
{
	size_t used = 0;
	list[0] = '\0';
	for (const cfg_opt_t *option = section->opts; option->name && used < size; option++)
		if (strcmp(option->name, END) != 0)
			used += (size_t)snprintf(list + used, size - used, "%s%s",
				used > 0 ? ", " : "", option->name);
}

static void __attribute__((format(printf, 2, 0)))
syntax_mistake(cfg_t *section, const char *format, va_list args)
{
	char text[LINE_SIZE / 2], names[LINE_SIZE / 2];

	vsnprintf(text, sizeof(text), format, args);
	if (strstr(text, END))
		snprintf(text, sizeof(text), "the end, and a section is open: } is missing");
	list_names(section, names, sizeof(names));
	bool unknown = strncmp(text, "no such option", 14) == 0;
	unsigned line = (unsigned)section->line;
	if (line > current->lines)
		line = current->lines;
	mistake(current, line, "%s%s%s", text, unknown ? "; there are: " : "",
		unknown ? names : "");
}

/* ---- values ---- */

static int take_value(cfg_t *section, cfg_opt_t *option, const char *text, void *result)
{
	size_t length = strlen(text);
	json_t *unicode = json_string(text);
	bool legal = unicode && length <= MAX_VALUE;

	json_decref(unicode);
	for (const char *c = text; legal && *c; c++)
		legal = (unsigned char)*c >= ' ' && *c != 0x7f;
	if (!legal) {
		cfg_error(section,
			"value of %s: give at most %d bytes of UTF-8 without control characters",
			option->name, MAX_VALUE);
		return -1;
	}
	if (current->twice) {
		cfg_error(section, "%s is given twice: leave one", option->name);
		return -1;
	}
	struct value *value = malloc(sizeof(*value) + length + 1);
	if (!value) {
		current->no_memory = true;
		return -1;
	}
	value->line = (unsigned)section->line;
	memcpy(value->text, text, length + 1);
	*(void **)result = value;
	return 0;
}

static void free_value(void *value)
{
	if (current)
		current->twice = true;
	free(value);
}

static void take_settings(
	struct reader *reader, cfg_t *section, const struct setting *settings, void *target)
{
	char wanted[WANTED_SIZE];

	for (; settings->name; settings++) {
		const struct value *value = cfg_getptr(section, settings->name);
		if (value && settings->set(target, value->text, wanted) < 0)
			mistake(reader, value->line, "%s = \"%.*s\": %s", settings->name, SHOWN,
				value->text, wanted);
	}
}

/* Where it stands: the library knows only where it ends. */
static unsigned line_of(const cfg_t *section, const struct setting *settings)
{
	unsigned line = (unsigned)section->line;
	for (; settings->name; settings++) {
		const struct value *value = cfg_getptr((cfg_t *)section, settings->name);
		if (value && value->line < line)
			line = value->line;
	}
	return line;
}

/* ---- rules ---- */

struct rule_section {
	cfg_t *section;
	bool deny;
	unsigned index; /* among those of its kind */
};

static int by_line(const void *a, const void *b)
{
	const struct rule_section *one = a, *other = b;
	if (one->section->line != other->section->line)
		return one->section->line < other->section->line ? -1 : 1;
	return one->index < other->index ? -1 : one->index > other->index;
}

static void take_rule(
	struct reader *reader, const struct rule_section *rule_section, struct policy_rule *rule)
{
	const struct setting *settings = rule_section->deny ? deny_settings : allow_settings;

	*rule = (struct policy_rule)POLICY_RULE_INIT;
	snprintf(rule->origin, sizeof(rule->origin), "%.100s:%u", reader->path,
		line_of(rule_section->section, settings));
	if (rule_section->deny)
		rule->access = POLICY_DENY;
	take_settings(reader, rule_section->section, settings, rule);
}

/* Two rules that reserve one ID would contradict each other. */
static void check_ids(struct reader *reader, const struct policy *policy, unsigned line)
{
	for (size_t i = 0; i < policy->n; i++) {
		for (size_t j = 0; j < i; j++) {
			int id = policy->rules[i].id;
			if (id != POLICY_ANY_ID && id == policy->rules[j].id)
				mistake(reader, line, "id = %d stands in two rules (%s and %s)", id,
					policy->rules[j].origin, policy->rules[i].origin);
		}
	}
}

static void collect_rules(cfg_t *region, struct rule_section *all, bool deny, size_t from)
{
	const char *kind = deny ? "deny" : "allow";
	for (unsigned i = 0; i < cfg_size(region, kind); i++)
		all[from + i] = (struct rule_section){
			.section = cfg_getnsec(region, kind, i), .deny = deny, .index = i};
}

static int take_rules(struct reader *reader, cfg_t *region, struct region_spec *spec)
{
	size_t allows = cfg_size(region, "allow"), n = allows + cfg_size(region, "deny");
	unsigned line = line_of(region, region_settings);

	if (n == 0)
		return region_spec_default_rules(spec);
	if (n > FILE_MAX_RULES) {
		mistake(reader, line, "region %s has %zu rules, at most %d are possible",
			spec->name, n, FILE_MAX_RULES);
		return 0;
	}
	struct rule_section *all = calloc(n, sizeof(*all));
	spec->policy.rules = calloc(n, sizeof(*spec->policy.rules));
	if (!all || !spec->policy.rules) {
		free(all);
		return -ENOMEM;
	}
	collect_rules(region, all, false, 0);
	collect_rules(region, all, true, allows);
	qsort(all, n, sizeof(*all), by_line);
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && all[i].section->line == all[i - 1].section->line &&
			all[i].deny != all[i - 1].deny)
			mistake(reader, (unsigned)all[i].section->line,
				"allow and deny in one line: give each a line of its own, their "
				"order counts");
		take_rule(reader, &all[i], &spec->policy.rules[spec->policy.n++]);
	}
	free(all);
	check_ids(reader, &spec->policy, line);
	return 0;
}

/* ---- regions ---- */

/* What is wrong with settings that are right each for itself, or NULL. */
static const char *find_conflict(const struct region_spec *spec, bool size_given)
{
	const struct region_config *memory = &spec->memory;
	bool file = memory->kind == REGION_FILE;

	if (memory->huge_page && memory->kind != REGION_MEMFD)
		return "huge-pages is for memory = memfd; for others give dir: of a hugetlbfs";
	if (memory->reuse && memory->kind != REGION_SHM)
		return "reuse is for memory = shm:NAME";
	if (file && memory->numa_node != REGION_NUMA_ANY)
		return "numa-node: an existing file has its pages already";
	if (file && memory->mode)
		return "region-mode: an existing file keeps its mode";
	if (spec->header && !file && size_given && memory->size <= IVSHMEM_HEADER_SIZE)
		return "header takes 4K of the region: give it a larger size";
	return NULL;
}

static int take_region(struct reader *reader, cfg_t *section, struct region_spec *spec)
{
	const char *name = cfg_title(section);
	unsigned line = line_of(section, region_settings);
	bool size_given = cfg_getptr(section, "size") != NULL;

	region_spec_init(spec);
	spec->from_file = true;
	if (!name_is_valid(name)) {
		mistake(reader, line, "region %.*s: a name is 1 to 63 of a-z, 0-9, dot, _ and -",
			SHOWN, name);
		return 0;
	}
	snprintf(spec->name, sizeof(spec->name), "%s", name);
	/* A legal name always fits. */
	(void)socket_of_region(
		IVSHMEM_SOCKET_FOLDER, name, spec->socket_path, sizeof(spec->socket_path));
	take_settings(reader, section, region_settings, spec);
	if (spec->memory.kind == REGION_FILE && !size_given)
		spec->memory.size = 0; /* the file's own */
	const char *conflict = find_conflict(spec, size_given);
	if (conflict)
		mistake(reader, line, "region %s: %s", name, conflict);
	return take_rules(reader, section, spec);
}

static const struct region_spec *find_socket(
	const struct region_spec *specs, size_t n, const char *path)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(specs[i].socket_path, path) == 0)
			return &specs[i];
	}
	return NULL;
}

static void check_sockets(struct reader *reader, cfg_t *root, const struct file_config *config)
{
	for (size_t i = 0; i < config->n; i++) {
		const char *path = config->regions[i].socket_path;
		unsigned line = line_of(cfg_getnsec(root, "region", (unsigned)i), region_settings);
		const struct region_spec *other = find_socket(config->regions, i, path);
		if (other)
			mistake(reader, line, "region %s: %s is the socket of region %s",
				config->regions[i].name, path, other->name);
		if (strcmp(path, config->control_path) == 0)
			mistake(reader, line, "region %s: %s is the control socket",
				config->regions[i].name, path);
	}
}

static int take_all(struct reader *reader, cfg_t *root, struct file_config *config)
{
	size_t n = cfg_size(root, "region");
	int error = 0;

	take_settings(reader, cfg_getsec(root, "control"), control_settings, config);
	take_settings(reader, cfg_getsec(root, "limits"), limits_settings, config);
	if (n > HUB_MAX_REGIONS) {
		mistake(reader, 1, "%zu regions, at most %d are possible", n, HUB_MAX_REGIONS);
		return 0;
	}
	if (n == 0)
		return 0;
	config->regions = calloc(n, sizeof(*config->regions));
	if (!config->regions)
		return -ENOMEM;
	for (; config->n < n && error == 0; config->n++)
		error = take_region(reader, cfg_getnsec(root, "region", (unsigned)config->n),
			&config->regions[config->n]);
	if (error == 0 && reader->mistakes == 0)
		check_sockets(reader, root, config);
	return error;
}

/* ---- the library ---- */

/* The options of a section as the library wants them; returns where to go on. */
static cfg_opt_t *add_options(cfg_opt_t *options, const struct setting *settings)
{
	for (; settings->name; settings++)
		*options++ = (cfg_opt_t)CFG_PTR_CB(
			settings->name, NULL, CFGF_NONE, take_value, free_value);
	return options;
}

/* The library copies all of it. NULL without memory. */
static cfg_t *make_schema(void)
{
	cfg_opt_t allow[MAX_OPTIONS], deny[MAX_OPTIONS], region[MAX_OPTIONS], control[MAX_OPTIONS];
	cfg_opt_t limits[MAX_OPTIONS];

	*add_options(allow, allow_settings) = (cfg_opt_t)CFG_END();
	*add_options(deny, deny_settings) = (cfg_opt_t)CFG_END();
	*add_options(control, control_settings) = (cfg_opt_t)CFG_END();
	*add_options(limits, limits_settings) = (cfg_opt_t)CFG_END();
	cfg_opt_t *next = add_options(region, region_settings);
	*next++ = (cfg_opt_t)CFG_SEC("allow", allow, CFGF_MULTI);
	*next++ = (cfg_opt_t)CFG_SEC("deny", deny, CFGF_MULTI);
	*next = (cfg_opt_t)CFG_END();
	cfg_opt_t root[] = {
		CFG_SEC("control", control, CFGF_NONE),
		CFG_SEC("limits", limits, CFGF_NONE),
		CFG_SEC("region", region, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
		CFG_PTR_CB(END, NULL, CFGF_NONE, take_value, free_value),
		CFG_END(),
	};
	cfg_t *schema = cfg_init(root, CFGF_NONE);
	if (schema)
		cfg_set_error_function(schema, syntax_mistake);
	return schema;
}

/* Syntax: from the text to the library's tree. */
static int parse_syntax(struct reader *reader, cfg_t *root, char *text, size_t size)
{
	FILE *file = fmemopen(text, size, "r");
	if (!file)
		return -ENOMEM;
	current = reader;
	int result = cfg_parse_fp(root, file);
	current = NULL;
	fclose(file);
	if (reader->no_memory)
		return -ENOMEM;
	if (reader->mistakes == 0 && (result != CFG_SUCCESS || !cfg_getptr(root, END)))
		mistake(reader, reader->lines, "the end, and a comment or a text is open");
	return 0;
}

static int parse(struct reader *reader, cfg_t *root, const char *text, size_t size)
{
	char *whole = malloc(size + sizeof(END_TEXT));
	if (!whole)
		return -ENOMEM;
	memcpy(whole, text, size);
	memcpy(whole + size, END_TEXT, sizeof(END_TEXT));
	int error = parse_syntax(reader, root, whole, size + sizeof(END_TEXT) - 1);
	free(whole);
	return error;
}

static unsigned line_at(const char *text, size_t offset)
{
	unsigned line = 1;
	for (size_t i = 0; i < offset; i++)
		line += text[i] == '\n';
	return line;
}

int file_parse(struct file_config *config, const char *path, const char *text, size_t size,
	file_complaint *complain, void *data)
{
	struct reader reader = {.path = path, .complain = complain, .data = data};
	const char *zero = size > 0 ? memchr(text, '\0', size) : NULL;

	*config = defaults;
	if (zero) {
		mistake(&reader, line_at(text, (size_t)(zero - text)),
			"a zero byte: this is no text");
		return -EINVAL;
	}
	if (size > FILE_MAX_SIZE) {
		mistake(&reader, 1, "the file has more than %u bytes", FILE_MAX_SIZE);
		return -EINVAL;
	}
	reader.lines = line_at(text, size);
	cfg_t *root = make_schema();
	if (!root)
		return -ENOMEM;
	int error = parse(&reader, root, text, size);
	if (error == 0 && reader.mistakes == 0)
		error = take_all(&reader, root, config);
	cfg_free(root);
	return error == 0 && reader.mistakes > 0 ? -EINVAL : error;
}

/* ---- the file ---- */

static int read_all(const char *path, char **text, size_t *size)
{
	int error = 0;
	ssize_t got;

	/* Non-blocking, for a FIFO of that name. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	*size = 0;
	*text = malloc(FILE_MAX_SIZE + 1);
	if (!*text)
		error = -ENOMEM;
	while (error == 0 && *size <= FILE_MAX_SIZE) {
		got = read(fd, *text + *size, FILE_MAX_SIZE + 1 - *size);
		if (got == 0)
			break;
		if (got > 0)
			*size += (size_t)got;
		else if (errno != EINTR)
			error = -errno;
	}
	close(fd);
	return error;
}

int file_read(struct file_config *config, const char *path, file_complaint *complain, void *data)
{
	struct reader reader = {.path = path, .complain = complain, .data = data};
	char *text = NULL;
	size_t size = 0;

	*config = defaults;
	int error = read_all(path, &text, &size);
	if (error == 0)
		error = file_parse(config, path, text, size, complain, data);
	else
		mistake(&reader, 0, "cannot read it: %s", strerror(-error));
	free(text);
	return error;
}

void file_config_fini(struct file_config *config)
{
	for (size_t i = 0; i < config->n; i++)
		region_spec_fini(&config->regions[i]);
	free(config->regions);
	config->regions = NULL;
	config->n = 0;
}
