/* SPDX-License-Identifier: Apache-2.0 */
/* Fields are numbers, constants, or the text that log.c has made printable: nothing from outside can add one. */
#include "daemon/host/journal.h"

#include "daemon/host/systemd.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

#define FIELDS_MAX 7
#define FIELD_BYTES 64 /* of all but MESSAGE */

struct entry {
	struct iovec fields[FIELDS_MAX];
	char room[FIELDS_MAX][FIELD_BYTES];
	size_t n;
};

/* libsystemd drops entries silently where there is no such socket, as in a root directory of one's own. */
bool journal_reads(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char ours[64];
	struct stat status;

	if (!stream || fstat(fd, &status) < 0)
		return false;
	(void)snprintf(ours, sizeof(ours), "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
	return strcmp(stream, ours) == 0 && access(JOURNAL_SOCKET, W_OK) == 0;
}

__attribute__((format(printf, 2, 3))) static void add(struct entry *entry, const char *format, ...)
{
	char *room = entry->room[entry->n];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(room, FIELD_BYTES, format, arguments);
	va_end(arguments);
	entry->fields[entry->n++] = (struct iovec){ room, strlen(room) };
}

static void add_client(struct entry *entry, const struct log_client *client)
{
	if (client->session > 0)
		add(entry, "KVPAGED_SESSION=%" PRIu64, client->session);
	add(entry, "KVPAGED_CLIENT_UID=%u", client->uid);
	add(entry, "KVPAGED_CLIENT_PID=%d", (int)client->pid);
}

int journal_put(int priority, const char *id, const struct log_client *client, const char *text)
{
	char message[sizeof("MESSAGE=") + LOG_TEXT_BYTES];
	struct entry entry = { .n = 0 };

	add(&entry, "SYSLOG_IDENTIFIER=kvpaged");
	add(&entry, "PRIORITY=%d", priority);
	if (id)
		add(&entry, "MESSAGE_ID=%s", id);
	if (client)
		add_client(&entry, client);
	(void)snprintf(message, sizeof(message), "MESSAGE=%s", text);
	entry.fields[entry.n++] = (struct iovec){ message, strlen(message) };
	return systemd_journal_send(entry.fields, entry.n);
}
