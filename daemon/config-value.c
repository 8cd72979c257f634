/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the values: one function a type, chosen by a table. Each says what is wrong in words that
 * name the text it was given.
 */
#include "daemon/config-table.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "base/units.h"
#include "daemon/host/inet.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/un.h>

#define QUOTED_BYTES 256

struct reading {
	const struct setting *setting;
	const char *text;
	struct config_fields *fields;
	char *problem;
	size_t problem_size;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct reading *reading,
							const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(reading->problem, reading->problem_size, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static int refuse_text(const struct reading *reading, const char *what)
{
	char quoted[QUOTED_BYTES];

	return refuse(reading, "'%s' %s",
		      text_escape(reading->text, strlen(reading->text), quoted, sizeof(quoted)),
		      what);
}

static uint64_t *field_u64(const struct reading *reading)
{
	return (uint64_t *)(void *)((char *)reading->fields + reading->setting->offset);
}

static void format_value(const struct setting *setting, uint64_t value, char *buffer, size_t size)
{
	if (setting->type == SETTING_BYTES)
		(void)units_format_bytes(value, buffer, size);
	else
		(void)snprintf(buffer, size, "%llu%s", (unsigned long long)value,
			       setting->type == SETTING_MS ? " ms" : "");
}

static int take_number(const struct reading *reading, uint64_t value)
{
	const struct setting *setting = reading->setting;
	char bound[32], what[80];

	if (value < setting->min || value > setting->max) {
		bool low = value < setting->min;

		format_value(setting, low ? setting->min : setting->max, bound, sizeof(bound));
		(void)snprintf(what, sizeof(what), "is %s, which is %s",
			       low ? "below the least" : "above the most", bound);
		return refuse_text(reading, what);
	}
	if (setting->multiple > 0 && value % setting->multiple != 0) {
		format_value(setting, setting->multiple, bound, sizeof(bound));
		(void)snprintf(what, sizeof(what), "is not a multiple of %s", bound);
		return refuse_text(reading, what);
	}
	*field_u64(reading) = value;
	return 0;
}

static int read_number(const struct reading *reading, int (*parse)(const char *, uint64_t *),
		       const char *otherwise)
{
	uint64_t value;
	int r;

	if (reading->text[0] == '-')
		return refuse_text(reading, "is negative");
	r = parse(reading->text, &value);
	if (r == -ERANGE)
		return refuse_text(reading, "is too large");
	if (r < 0)
		return refuse_text(reading, otherwise);
	return take_number(reading, value);
}

static int read_bytes(const struct reading *reading)
{
	return read_number(reading, units_parse_bytes,
			   "is not a size: digits and B, KiB, MiB, GiB or TiB");
}

static int read_ms(const struct reading *reading)
{
	return read_number(reading, units_parse_ms, "is not a time: digits and ms, s, min or h");
}

static int read_count(const struct reading *reading)
{
	return read_number(reading, units_parse_u64, "is not a whole number");
}

static int read_choice(const struct reading *reading)
{
	const char *const *choices = reading->setting->choices;
	char what[80] = "is not one of";

	for (uint64_t i = 0; choices[i]; i++) {
		size_t used = strlen(what);

		if (strcmp(choices[i], reading->text) == 0) {
			*field_u64(reading) = i;
			return 0;
		}
		(void)snprintf(what + used, sizeof(what) - used, "%s %s", i ? "," : "", choices[i]);
	}
	return refuse_text(reading, what);
}

static int read_mode(const struct reading *reading)
{
	uint64_t mode = 0;
	const char *p = reading->text;

	if (!*p)
		return refuse(reading, "is empty");
	for (; *p; p++) {
		if (*p < '0' || *p > '7' || mode > 0777)
			return refuse_text(reading, "is not a mode: octal, at most 0777");
		mode = mode << 3 | (uint64_t)(*p - '0');
	}
	if (mode > 0777)
		return refuse_text(reading, "is not a mode: octal, at most 0777");
	*field_u64(reading) = mode;
	return 0;
}

/* The kernel's address has room for 108 bytes with the end; a longer path would be cut. */
static int read_socket_path(const struct reading *reading)
{
	size_t n = strlen(reading->text);
	size_t n_max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	if (n == 0)
		return refuse(reading, "is empty");
	if (n > n_max)
		return refuse(reading, "is %zu bytes long; the path of a socket has at most %zu", n,
			      n_max);
	return 0;
}

static int read_metrics_socket(const struct reading *reading)
{
	if (strcmp(reading->text, CONFIG_METRICS_AUTO) == 0 || strcmp(reading->text, CONFIG_METRICS_NO) == 0)
		return 0;
	if (!strchr(reading->text, '/'))
		return refuse_text(reading, "is neither " CONFIG_METRICS_AUTO " nor " CONFIG_METRICS_NO
					    " nor a path with a slash");
	return read_socket_path(reading);
}

/* Relative to which directory it was meant would depend on who starts us. */
static int read_file(const struct reading *reading)
{
	size_t n = strlen(reading->text);

	if (n == 0)
		return 0;
	if (reading->text[0] != '/' || reading->text[n - 1] == '/')
		return refuse_text(reading, "is not an absolute path of a file");
	if (n + sizeof(CONFIG_LOCK_SUFFIX) > PATH_MAX)
		return refuse(reading, "is too long");
	return 0;
}

static int read_address(const struct reading *reading)
{
	struct inet_address address;

	if (reading->text[0] == '\0' || inet_parse(reading->text, &address) == 0)
		return 0;
	return refuse_text(reading, "is not an address and port in numbers, such as 127.0.0.1:9464 or [::1]:9464");
}

/* Whether it is there is seen when it is opened. */
static int read_directory(const struct reading *reading)
{
	if (reading->text[0] == '\0' || (reading->text[0] == '/' && strlen(reading->text) < PATH_MAX - NAME_MAX))
		return 0;
	return refuse_text(reading, "is not an absolute path");
}

/*
 * Numbers are taken as they are: they need not be in the system's database. (uid_t)-1 means
 * "unchanged" to the kernel.
 */
static int read_id(const struct reading *reading, uint64_t *ret_id)
{
	if (units_parse_u64(reading->text, ret_id) < 0)
		return -ENOENT;
	return *ret_id < UINT32_MAX
		       ? 0
		       : refuse_text(reading, "is too large for a user or group number");
}

static int find_user(const struct reading *reading, uint64_t *ret_uid)
{
	int r = read_id(reading, ret_uid);
	const struct passwd *user;

	if (r != -ENOENT)
		return r;
	user = getpwnam(reading->text);
	if (!user)
		return refuse_text(reading, "is not a user here");
	*ret_uid = user->pw_uid;
	return 0;
}

static int find_group(const struct reading *reading, uint64_t *ret_gid)
{
	int r = read_id(reading, ret_gid);
	const struct group *group;

	if (r != -ENOENT)
		return r;
	group = getgrnam(reading->text);
	if (!group)
		return refuse_text(reading, "is not a group here");
	*ret_gid = group->gr_gid;
	return 0;
}

static int read_owner(const struct reading *reading,
		      int (*find)(const struct reading *, uint64_t *))
{
	uint64_t id = UINT64_MAX;
	int r = reading->text[0] ? find(reading, &id) : 0;

	if (r < 0)
		return r;
	*field_u64(reading) = id;
	return 0;
}

static int read_user(const struct reading *reading)
{
	return read_owner(reading, find_user);
}

static int read_group(const struct reading *reading)
{
	return read_owner(reading, find_group);
}

static char *trim(char *word)
{
	word += strspn(word, " \t");
	for (char *end = word + strlen(word); end > word && (end[-1] == ' ' || end[-1] == '\t');
	     end--)
		end[-1] = '\0';
	return word;
}

/* Numbers of users or groups, as find reads one, with commas between. */
static int read_ids(const struct reading *reading, int (*find)(const struct reading *, uint64_t *), const char *many,
		    uint32_t ids[CONFIG_IDS_MAX], size_t *ret_n)
{
	_cleanup_free_ char *copy = strdup(reading->text);
	struct reading one = *reading;
	size_t n = 0;
	char *rest = copy, *word;

	if (!copy)
		return refuse(reading, "out of memory");
	while (reading->text[0] && (word = strsep(&rest, ","))) {
		uint64_t id;
		int r;

		one.text = trim(word);
		if (n == CONFIG_IDS_MAX)
			return refuse(reading, "has more than %d %s", CONFIG_IDS_MAX, many);
		r = find(&one, &id);
		if (r < 0)
			return r;
		ids[n++] = (uint32_t)id;
	}
	*ret_n = n;
	return 0;
}

_Static_assert(sizeof(uid_t) == sizeof(uint32_t) && sizeof(gid_t) == sizeof(uint32_t), "ids are of one size");

static int read_uids(const struct reading *reading)
{
	struct config_fields *fields = reading->fields;

	return read_ids(reading, find_user, "users", fields->allow_uids, &fields->n_allow_uids);
}

static int read_gids(const struct reading *reading)
{
	struct config_fields *fields = reading->fields;

	return read_ids(reading, find_group, "groups", fields->allow_gids, &fields->n_allow_gids);
}

int setting_parse(const struct setting *setting, const char *text, struct config_fields *fields,
		  char *problem, size_t problem_size)
{
	static int (*const readers[_SETTING_TYPE_MAX])(const struct reading *) = {
		[SETTING_BYTES] = read_bytes, [SETTING_MS] = read_ms,
		[SETTING_COUNT] = read_count, [SETTING_CHOICE] = read_choice,
		[SETTING_MODE] = read_mode,   [SETTING_SOCKET_PATH] = read_socket_path,
		[SETTING_USER] = read_user,   [SETTING_GROUP] = read_group,
		[SETTING_UIDS] = read_uids,   [SETTING_GIDS] = read_gids,
		   [SETTING_METRICS_SOCKET] = read_metrics_socket,
		[SETTING_ADDRESS] = read_address, [SETTING_DIRECTORY] = read_directory,
		[SETTING_FILE] = read_file,
	};
	struct reading reading = {
		.setting = setting,
		.text = text,
		.fields = fields,
		.problem = problem,
		.problem_size = problem_size,
	};

	if (!text_is_clean(text, strlen(text)))
		return refuse_text(&reading, "has control characters or is not UTF-8");
	return readers[setting->type](&reading);
}
