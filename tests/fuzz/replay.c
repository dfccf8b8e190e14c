/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target over files or folders of them: the corpus as an ordinary test, with any
 * compiler. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

static int replay_file(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *file = fopen(path, "rb");
	if (!file) {
		perror(path);
		return -1;
	}
	size_t size = fread(data, 1, sizeof(data), file);
	fclose(file);
	/* An exact copy on the heap, so that a sanitizer sees a read past its end. */
	uint8_t *exact = malloc(size > 0 ? size : 1);
	if (!exact)
		return -1;
	for (size_t i = 0; i < size; i++)
		exact[i] = data[i];
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
	replayed++;
	return 0;
}

static int replay(const char *path)
{
	char inner[4096];
	struct stat st;
	int result = 0;

	if (stat(path, &st) < 0) {
		perror(path);
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return replay_file(path);
	DIR *folder = opendir(path);
	for (struct dirent *entry; folder && (entry = readdir(folder));) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
		if (replay_file(inner) < 0)
			result = -1;
	}
	if (folder)
		closedir(folder);
	return result;
}

int main(int argc, char **argv)
{
	int result = 0;
	for (int i = 1; i < argc; i++) {
		if (replay(argv[i]) < 0)
			result = 1;
	}
	printf("%u inputs replayed\n", replayed);
	/* An empty corpus would be a test that cannot fail. */
	return replayed > 0 ? result : 1;
}
