/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the daemon's configuration file: refused with the file's name and a line that it has, or taken with
 * every number within its setting's bounds. What was taken is printed, and each printed value means the same again.
 */
#include "daemon/config.h"
#include "daemon/config-table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/contract.h"

#define PATH_BYTES 64

/* A file with these bytes that no other user can write. */
static int file_new(const uint8_t *bytes, size_t n, char path[PATH_BYTES])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	kvp_assert(fd >= 0 && fchmod(fd, 0600) == 0);
	kvp_assert(write(fd, bytes, n) == (ssize_t)n && lseek(fd, 0, SEEK_SET) == 0);
	(void)snprintf(path, PATH_BYTES, "/proc/self/fd/%d", fd);
	return fd;
}

static size_t lines_of(const uint8_t *bytes, size_t n)
{
	size_t lines = 1;

	for (size_t i = 0; i < n; i++)
		lines += bytes[i] == '\n';
	return lines;
}

static void refusal_check(const struct host_error *error, const char *path, const uint8_t *bytes, size_t n)
{
	unsigned long line;

	kvp_assert(error->text[0] && strlen(error->text) < sizeof(error->text));
	if (strncmp(error->text, path, strlen(path)) != 0 || error->text[strlen(path)] != ':')
		return; /* settings that do not go together have no line of their own */
	line = strtoul(error->text + strlen(path) + 1, NULL, 10);
	kvp_assert(line <= lines_of(bytes, n)); /* 0: the file as a whole */
}

static bool is_number(const struct setting *setting)
{
	return setting->type == SETTING_BYTES || setting->type == SETTING_MS || setting->type == SETTING_COUNT ||
	       setting->type == SETTING_MODE || setting->type == SETTING_CHOICE;
}

static void value_check(const struct config *config, size_t i)
{
	const struct setting *setting = &settings[i];
	struct config_fields again = config->fields;
	uint64_t before, after;
	char problem[512];

	kvp_assert(config->values[i].text && config->values[i].origin);
	kvp_assert(setting_parse(setting, config->values[i].text, &again, problem, sizeof(problem)) == 0);
	if (!is_number(setting))
		return;
	memcpy(&before, (const uint8_t *)&config->fields + setting->offset, sizeof(before));
	memcpy(&after, (const uint8_t *)&again + setting->offset, sizeof(after));
	kvp_assert(before == after);
	if (setting->type == SETTING_CHOICE)
		return;
	kvp_assert(before >= setting->min && before <= setting->max);
	kvp_assert(setting->multiple == 0 || before % setting->multiple == 0);
}

static void taken_check(const struct config *config)
{
	struct core_config_item items[CONFIG_SETTINGS];
	_cleanup_free_ char *text = NULL;
	size_t n;
	FILE *stream = open_memstream(&text, &n);

	kvp_assert(stream);
	config_print(config, stream);
	kvp_assert(fclose(stream) == 0);
	kvp_assert(lines_of((const uint8_t *)text, n) == CONFIG_SETTINGS + 1);
	config_items(config, items);
	(void)config_core_limits(config);
	for (size_t i = 0; i < CONFIG_SETTINGS; i++) {
		kvp_assert(items[i].key && items[i].value && items[i].origin);
		value_check(config, i);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[PATH_BYTES];
	struct config_sources sources = { .path = path };
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_close_ int fd = file_new(data, size, path);
	struct host_error error = { 0 };

	kvp_assert(fd >= 0);
	if (config_load(&sources, &config, &error) < 0)
		refusal_check(&error, path, data, size);
	else
		taken_check(config);
	return 0;
}
