/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of settings: how each is named, read and checked. Shared by the parts of the
 * configuration only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"

enum setting_type {
	SETTING_BYTES,
	SETTING_MS,
	SETTING_COUNT,
	SETTING_CHOICE,
	SETTING_MODE,
	SETTING_SOCKET_PATH,
	SETTING_METRICS_SOCKET, /* a path, or a word for one */
	SETTING_FILE,           /* an absolute path; empty: none */
	SETTING_ADDRESS,        /* of TCP, in numbers; empty: none */
	SETTING_DIRECTORY,      /* an absolute path; empty: none */
	SETTING_USER,
	SETTING_GROUP,
	SETTING_UIDS,
	SETTING_GIDS,
	_SETTING_TYPE_MAX,
};

struct setting {
	const char *section;
	const char *key;
	const char *name; /* section.key */
	enum setting_type type;
	size_t offset; /* of the field in struct config_fields */
	uint64_t min;
	uint64_t max;
	uint64_t multiple; /* 0: any */
	const char *const *choices; /* of SETTING_CHOICE, up to a NULL; the value is the index */
	const char *initial;
	const char *alias; /* a second option name, or NULL */
	const char *help;
};

extern const struct setting settings[CONFIG_SETTINGS];

/* The setting's index, or -1. */
int setting_find(const char *section, const char *key);

/* Whether any setting is in this section. */
bool setting_section_exists(const char *section);

/* "section-key" for options and "KVPAGED_SECTION_KEY" for the environment; each returns buffer. */
char *setting_option_name(const struct setting *setting, char buffer[CONFIG_NAME_BYTES_MAX]);
char *setting_environment_name(const struct setting *setting, char buffer[CONFIG_NAME_BYTES_MAX]);

/*
 * Reads one value. On success the field is written, except for paths and addresses, which the
 * caller keeps as text. Results: 0, or -EINVAL and what is wrong ("'x' is not ...") in problem.
 */
int setting_parse(const struct setting *setting, const char *text, struct config_fields *fields,
		  char *problem, size_t problem_size);
