/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inih splits lines into sections, keys and values. Around it stands what it does not do: this
 * reader feeds it whole lines only, counts them, refuses what it would cut silently (long lines,
 * NUL), and removes leading blanks, which it would take for the continuation of the value before.
 * The first error ends the reading.
 */
#include "daemon/config-file.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "daemon/config-table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (64 << 10)
#define DROP_INS_MAX 256

struct source {
	const char *path;
	FILE *stream;
	char *buffer; /* getline()'s */
	size_t buffer_size;
	int line;
	int set_in[CONFIG_SETTINGS]; /* the line that set each; 0: none yet */
	config_file_line_fn line_fn;
	void *context;
	struct host_error *error;
	bool failed;
};

static void stream_closep(FILE **stream)
{
	if (*stream)
		(void)fclose(*stream);
}

__attribute__((format(printf, 2, 3))) static void fail(struct source *source, const char *format,
						       ...)
{
	char what[HOST_ERROR_TEXT_BYTES / 2];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	(void)host_error_set(source->error, HOST_EXIT_CONFIG, "%s:%d: %s", source->path,
			     source->line, what);
	source->failed = true;
}

/*
 * inih tells of sections only together with a key; an unknown one is an error even if it is empty.
 */
static void check_section(struct source *source, const char *line)
{
	char section[CONFIG_NAME_BYTES_MAX], escaped[4 * CONFIG_NAME_BYTES_MAX];
	size_t n = strcspn(line + 1, "]");

	if (line[1 + n] != ']')
		return; /* inih reports the syntax */
	(void)snprintf(section, sizeof(section), "%.*s", (int)n, line + 1);
	if (!setting_section_exists(section))
		fail(source, "[%s]: unknown section",
		     text_escape(section, strlen(section), escaped, sizeof(escaped)));
}

/* An ini_reader: like fgets(). */
static char *next_line(char *ret_line, int size, void *context)
{
	struct source *source = context;
	ssize_t n;
	char *text;

	if (source->failed)
		return NULL;
	n = getline(&source->buffer, &source->buffer_size, source->stream);
	if (n < 0) {
		if (!feof(source->stream)) /* an error, or no memory for the line, which sets no flag */
			fail(source, "%s", strerror(errno));
		return NULL;
	}
	source->line++;
	if (n > 0 && source->buffer[n - 1] == '\n')
		source->buffer[--n] = '\0';
	if (n > size - 2) {
		fail(source, "the line is longer than %d bytes", size - 2);
		return NULL;
	}
	if (memchr(source->buffer, '\0', (size_t)n)) {
		fail(source, "the line has a NUL byte");
		return NULL;
	}
	text = source->buffer + strspn(source->buffer, " \t");
	if (text[0] == '[')
		check_section(source, text);
	if (source->failed)
		return NULL;
	(void)snprintf(ret_line, (size_t)size, "%s\n", text);
	return ret_line;
}

/* An ini_handler. Results: 1 to go on, 0 for an error. */
static int take_pair(void *context, const char *section, const char *key, const char *value)
{
	struct source *source = context;
	char escaped[4 * CONFIG_NAME_BYTES_MAX], origin[PATH_MAX + 16];
	int index;

	if (source->failed)
		return 0;
	(void)text_escape(key, strlen(key), escaped, sizeof(escaped));
	if (!section[0]) {
		fail(source, "%s: stands before the first [section]", escaped);
		return 0;
	}
	index = setting_find(section, key);
	if (index < 0) {
		fail(source, "%s.%s: unknown key", section, escaped);
		return 0;
	}
	if (source->set_in[index] > 0) {
		fail(source, "%s: set twice, before in line %d", settings[index].name,
		     source->set_in[index]);
		return 0;
	}
	source->set_in[index] = source->line;
	(void)snprintf(origin, sizeof(origin), "%s:%d", source->path, source->line);
	source->failed = source->line_fn(source->context, index, value, origin, source->error) < 0;
	return !source->failed;
}

static int check_safe(const char *path, int fd, struct host_error *error)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return host_error_set(error, HOST_EXIT_CONFIG, "%s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode))
		return host_error_set(error, HOST_EXIT_CONFIG, "%s: not a regular file", path);
	if (status.st_uid != 0 && status.st_uid != geteuid())
		return host_error_set(
			error, HOST_EXIT_CONFIG,
			"%s: belongs to user %u, neither root nor this process's user", path,
			status.st_uid);
	if (status.st_mode & S_IWOTH)
		return host_error_set(error, HOST_EXIT_CONFIG,
				      "%s: everyone can write it (mode %04o)", path,
				      status.st_mode & 07777);
	if (status.st_size > FILE_BYTES_MAX)
		return host_error_set(error, HOST_EXIT_CONFIG, "%s: larger than %d bytes", path,
				      FILE_BYTES_MAX);
	return 0;
}

static int read_stream(struct source *source)
{
	int bad_line = ini_parse_stream(next_line, source, take_pair, source);

	free(source->buffer);
	/*
	 * inih goes on after a line that it does not understand; what we found may be further down.
	 */
	if (bad_line > 0 && (!source->failed || bad_line < source->line))
		return host_error_set(source->error, HOST_EXIT_CONFIG,
				      "%s:%d: neither a [section] nor a key = value", source->path,
				      bad_line);
	return source->failed ? -EINVAL : 0;
}

int config_file_read(const char *path, bool optional, config_file_line_fn line, void *context,
		     struct host_error *error)
{
	/* O_NONBLOCK: a FIFO must not hold us up. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_(stream_closep) FILE *stream = NULL;
	struct source source = {
		.path = path, .line_fn = line, .context = context, .error = error
	};
	int r;

	if (fd < 0 && errno == ENOENT && optional)
		return 0;
	if (fd < 0)
		return host_error_set(error,
				      errno == ENOENT ? HOST_EXIT_NOT_CONFIGURED : HOST_EXIT_CONFIG,
				      "%s: %s", path, strerror(errno));
	r = check_safe(path, fd, error);
	if (r < 0)
		return r;
	stream = fdopen(fd, "r");
	if (!stream)
		return host_error_set(error, HOST_EXIT_FAILURE, "%s: %s", path, strerror(errno));
	(void)take_fd(&fd);
	source.stream = stream;
	return read_stream(&source);
}

static int is_drop_in(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int config_directory_read(const char *path, config_file_line_fn line, void *context,
			  struct host_error *error)
{
	struct dirent **entries;
	int n = scandir(path, &entries, is_drop_in, by_name);
	int r = 0;

	if (n < 0 && errno == ENOENT)
		return 0;
	if (n < 0)
		return host_error_set(error, HOST_EXIT_CONFIG, "%s: %s", path, strerror(errno));
	if (n > DROP_INS_MAX)
		r = host_error_set(error, HOST_EXIT_CONFIG, "%s: more than %d files", path,
				   DROP_INS_MAX);
	for (int i = 0; i < n; i++) {
		char file[PATH_MAX];

		if (r == 0 && (size_t)snprintf(file, sizeof(file), "%s/%s", path,
					       entries[i]->d_name) >= sizeof(file))
			r = host_error_set(error, HOST_EXIT_CONFIG, "%s: the path is too long",
					   path);
		if (r == 0)
			r = config_file_read(file, false, line, context, error);
		free(entries[i]);
	}
	free(entries);
	return r;
}
