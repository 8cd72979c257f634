/* SPDX-License-Identifier: Apache-2.0 */
/* Small files of /proc and /sys, and settings of the daemon. */
#include "client/kvctl/doctor.h"

#include "base/cleanup.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define PATH_BYTES 4096
#define FILE_BYTES 65536

const char *doctor_setting(const struct doctor *doctor, const char *key)
{
	for (size_t i = 0; i < doctor->n_config; i++)
		if (strcmp(doctor->config[i].key, key) == 0)
			return doctor->config[i].value;
	return NULL;
}

int doctor_read(const struct doctor *doctor, const char *path, char *buffer, size_t size)
{
	char full[PATH_BYTES];
	_cleanup_close_ int fd = -1;
	size_t n = 0;
	ssize_t got;

	if ((size_t)snprintf(full, sizeof(full), "%s%s", doctor->root, path) >= sizeof(full))
		return -ENAMETOOLONG;
	fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	do {
		got = read(fd, buffer + n, size - 1 - n);
		n += got > 0 ? (size_t)got : 0;
	} while (got > 0 && n < size - 1);
	if (got < 0)
		return -errno;
	while (n > 0 && buffer[n - 1] == '\n')
		n--;
	buffer[n] = '\0';
	return 0;
}

/* A number at the beginning of text, or one of the words for "no limit". */
static int number_of(const char *text, uint64_t *ret_value)
{
	char digits[24];
	size_t n = strspn(text, "0123456789");

	if (strncmp(text, "max", 3) == 0 || strncmp(text, "unlimited", 9) == 0) {
		*ret_value = UINT64_MAX;
		return 0;
	}
	if (n == 0 || n >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, n);
	digits[n] = '\0';
	return units_parse_u64(digits, ret_value);
}

int doctor_read_u64(const struct doctor *doctor, const char *path, uint64_t *ret_value)
{
	char text[64];
	int r = doctor_read(doctor, path, text, sizeof(text));

	return r < 0 ? r : number_of(text, ret_value);
}

int doctor_read_field(const struct doctor *doctor, const char *path, const char *name, unsigned column,
		      uint64_t *ret_value)
{
	_cleanup_free_ char *text = malloc(FILE_BYTES);
	int r = text ? doctor_read(doctor, path, text, FILE_BYTES) : -ENOMEM;
	char *rest = text;

	if (r < 0)
		return r;
	for (char *line; (line = strsep(&rest, "\n"));) {
		const char *at = line + strlen(name);

		if (strncmp(line, name, strlen(name)) != 0)
			continue;
		at += strspn(at, " \t");
		for (unsigned i = 0; i < column; i++) {
			at += strcspn(at, " \t");
			at += strspn(at, " \t");
		}
		return number_of(at, ret_value);
	}
	return -ENOENT;
}
