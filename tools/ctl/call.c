/* SPDX-License-Identifier: MIT */
#include "ctl.h"

#include "common/jsontext.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define INTERFACE "ivshmem.Control."
#define SERVICE   "org.varlink.service."

const char *get_text(json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : "";
}

int64_t get_number(json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

bool get_flag(json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

int ctl_complain(const struct ctl *ctl, int error)
{
	if (error == -ENOENT || error == -ECONNREFUSED) {
		fprintf(stderr,
			CTL_PROGRAM ": nobody has a control socket at %s (%s): start %s, or "
				    "say where with --socket PATH\n",
			ctl->socket, strerror(-error), ctl->start);
		return EXIT_NO_SERVER;
	}
	if (error == -EACCES)
		fprintf(stderr,
			CTL_PROGRAM ": may not connect to %s: be root, or in the group of that "
				    "socket\n",
			ctl->socket);
	else if (error == -ECONNRESET)
		fprintf(stderr, CTL_PROGRAM ": the server has closed the connection\n");
	else if (error == -ETIMEDOUT)
		fprintf(stderr, CTL_PROGRAM ": no answer from %s; --timeout would wait longer\n",
			ctl->socket);
	else if (error == -EBADMSG || error == -EMSGSIZE)
		fprintf(stderr, CTL_PROGRAM ": what listens at %s does not speak Varlink\n",
			ctl->socket);
	else
		fprintf(stderr, CTL_PROGRAM ": %s: %s\n", ctl->socket, strerror(-error));
	return EXIT_FAILED;
}

/* An error that the server has answered with. */
static int complain_answer(const struct ctl *ctl, json_t *answer)
{
	json_t *parameters = json_object_get(answer, "parameters");
	const char *error = get_text(answer, "error"), *reason = get_text(parameters, "reason");

	if (ctl->quiet)
		return EXIT_FAILED;
	if (strcmp(error, SERVICE "InvalidParameter") == 0)
		fprintf(stderr, CTL_PROGRAM ": the server does not take this value of '%s'\n",
			get_text(parameters, "parameter"));
	else if (strcmp(error, SERVICE "MethodNotFound") == 0 ||
		strcmp(error, SERVICE "InterfaceNotFound") == 0)
		fprintf(stderr, CTL_PROGRAM ": the server at %s cannot do this; is it older?\n",
			ctl->socket);
	else
		fprintf(stderr, CTL_PROGRAM ": %s\n", reason[0] ? reason : error);
	if (ctl->json)
		json_print_line(json_incref(answer), stdout);
	return EXIT_FAILED;
}

int ctl_check_answer(const struct ctl *ctl, json_t *answer)
{
	return json_object_get(answer, "error") ? complain_answer(ctl, answer) : 0;
}

/* An exit code, 0 to go on while *more. */
static int take_answer(struct ctl *ctl, answer_taker *take, void *data, bool *more)
{
	json_t *answer;
	int result = client_answer(&ctl->client, &answer);
	if (result < 0)
		return ctl_complain(ctl, result);
	json_t *parameters = json_object_get(answer, "parameters");
	result = ctl_check_answer(ctl, answer);
	if (result != 0 || !take(data, parameters))
		*more = false;
	else
		*more = json_is_true(json_object_get(answer, "continues"));
	json_decref(answer);
	return result;
}

int ctl_send(struct ctl *ctl, const char *method, json_t *parameters, bool more)
{
	char name[64];
	int result =
		ctl->client.sock >= 0 ? 0 : client_open(&ctl->client, ctl->socket, ctl->timeout_ms);
	if (result < 0) {
		json_decref(parameters);
		return ctl_complain(ctl, result);
	}
	snprintf(name, sizeof(name), "%s%s", strchr(method, '.') ? "" : INTERFACE, method);
	result = client_call(&ctl->client, name, parameters, more);
	return result < 0 ? ctl_complain(ctl, result) : 0;
}

int ctl_call(struct ctl *ctl, const char *method, json_t *parameters, bool more, answer_taker *take,
	void *data)
{
	int result = ctl_send(ctl, method, parameters, more);

	if (result != 0)
		return result;
	do
		result = take_answer(ctl, take, data, &more);
	while (result == 0 && more);
	return result;
}

struct collection {
	const char *name;
	json_t *list;
};

static bool collect(void *data, json_t *parameters)
{
	struct collection *collection = data;
	json_array_extend(collection->list, json_object_get(parameters, collection->name));
	return true;
}

int ctl_list(
	struct ctl *ctl, const char *method, json_t *parameters, const char *name, json_t **list)
{
	struct collection collection = {.name = name, .list = json_array()};
	int result = ctl_call(ctl, method, parameters, true, collect, &collection);
	*list = collection.list;
	return result;
}
