/* SPDX-License-Identifier: MIT */
#include "server/who.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define N_TEXTS 4

/* In the order of their worth. */
static char *text_of(struct identity *identity, unsigned i)
{
	char *const texts[N_TEXTS] = {
		identity->executable, identity->machine, identity->label, identity->cgroup};
	return texts[i];
}

void who_fini(struct who *who)
{
	free(who->texts);
	who->texts = NULL;
}

void who_from_socket(struct who *who, int sock)
{
	struct ucred cred = {.uid = (uid_t)-1, .gid = (gid_t)-1};
	socklen_t size = sizeof(cred);

	(void)getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &size);
	*who = (struct who){.uid = cred.uid, .gid = cred.gid, .pid = cred.pid};
}

static size_t pack(const struct identity *identity, char texts[WHO_TEXT_SIZE])
{
	size_t used = 0;

	for (unsigned i = 0; i < N_TEXTS; i++) {
		size_t room = WHO_TEXT_SIZE - used - (N_TEXTS - i); /* a zero for each to come */
		const char *text = text_of((struct identity *)identity, i);
		size_t length = strnlen(text, IDENTITY_TEXT - 1);
		if (length > room)
			length = room;
		memcpy(texts + used, text, length);
		used += length;
		texts[used++] = '\0';
	}
	return used;
}

void who_read_texts(const char texts[WHO_TEXT_SIZE], struct identity *identity)
{
	size_t at = 0;

	for (unsigned i = 0; i < N_TEXTS; i++) {
		char *text = text_of(identity, i);
		size_t length = strnlen(texts + at, WHO_TEXT_SIZE - at);
		size_t kept = length < IDENTITY_TEXT ? length : IDENTITY_TEXT - 1;
		memcpy(text, texts + at, kept);
		text[kept] = '\0';
		at += length < WHO_TEXT_SIZE - at ? length + 1 : length;
	}
}

int who_set(struct who *who, const struct identity *identity)
{
	char texts[WHO_TEXT_SIZE];
	size_t size = pack(identity, texts);

	who->uid = identity->uid;
	who->gid = identity->gid;
	who->pid = identity->pid;
	free(who->texts);
	who->texts = malloc(size);
	if (!who->texts)
		return -ENOMEM;
	memcpy(who->texts, texts, size);
	return 0;
}

void who_get(const struct who *who, struct identity *identity)
{
	*identity = (struct identity){.uid = who->uid, .gid = who->gid, .pid = who->pid};
	if (who->texts)
		who_read_texts(who->texts, identity);
}

void who_copy_texts(const struct who *who, char texts[WHO_TEXT_SIZE])
{
	const char *end = who->texts;

	for (unsigned i = 0; i < N_TEXTS; i++)
		end += strlen(end) + 1;
	memcpy(texts, who->texts, (size_t)(end - who->texts));
}
