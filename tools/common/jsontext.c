/* SPDX-License-Identifier: MIT */
#include "common/jsontext.h"

#include <stdlib.h>
#include <string.h>

json_t *json_text(const char *text)
{
	json_t *string = json_string(text);
	if (string)
		return string;

	char *ascii = strdup(text);
	if (!ascii)
		return NULL;
	for (char *c = ascii; *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	string = json_string(ascii);
	free(ascii);
	return string;
}

void json_print_line(json_t *object, FILE *out)
{
	char *text = json_dumps(object, JSON_COMPACT);
	if (text) {
		fprintf(out, "%s\n", text);
		fflush(out);
	}
	free(text);
	json_decref(object);
}
