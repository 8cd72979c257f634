/* SPDX-License-Identifier: Apache-2.0 */
/* The connection, and what is said and returned when something fails. */
#include "client/kvctl/kvctl.h"

#include "client/kvctl/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON_BYTES 512
#define SOCKET_PATH_DEFAULT "/run/kvpaged/kvpaged.sock"

static const struct {
	int result;
	int status;
} exits[] = {
	{ KVC_OK, CTL_OK },
	{ KVC_MISS, CTL_NOT_FOUND },
	{ KVC_NO_PARENT, CTL_NOT_FOUND },
	{ KVC_NO_SPACE_NAMED, CTL_NOT_FOUND },
	{ KVC_PERMISSION, CTL_PERMISSION },
	{ -EACCES, CTL_PERMISSION },
	{ -EPERM, CTL_PERMISSION },
	{ KVC_VERSION, CTL_UNREACHABLE },
	{ KVC_PROTOCOL, CTL_UNREACHABLE },
	{ -ENOENT, CTL_UNREACHABLE },
	{ -ENOTDIR, CTL_UNREACHABLE },
	{ -ENOTSOCK, CTL_UNREACHABLE },
	{ -ECONNREFUSED, CTL_UNREACHABLE },
	{ -ECONNRESET, CTL_UNREACHABLE },
	{ -ENOTCONN, CTL_UNREACHABLE },
	{ -EPIPE, CTL_UNREACHABLE },
	{ -EPROTO, CTL_UNREACHABLE },
	{ -EPROTOTYPE, CTL_UNREACHABLE },
	{ KVC_NO_SPACE, CTL_TRY_AGAIN },
	{ KVC_QUOTA, CTL_TRY_AGAIN },
	{ KVC_BUSY, CTL_TRY_AGAIN },
	{ KVC_STALE, CTL_TRY_AGAIN },
	{ KVC_STOPPING, CTL_TRY_AGAIN },
	{ KVC_TOO_MANY, CTL_TRY_AGAIN },
	{ -ETIMEDOUT, CTL_TRY_AGAIN },
	{ -EAGAIN, CTL_TRY_AGAIN },
	{ -ENAMETOOLONG, CTL_CONFIG },
};

int ctl_exit_of(int result)
{
	for (size_t i = 0; i < sizeof(exits) / sizeof(exits[0]); i++)
		if (exits[i].result == result)
			return exits[i].status;
	return CTL_FAILED;
}

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list list)
{
	(void)fflush(stdout);
	(void)fputs("kvctl: ", stderr);
	(void)vfprintf(stderr, format, list);
	(void)fputc('\n', stderr);
}

int ctl_usage(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	say(format, list);
	va_end(list);
	return CTL_USAGE;
}

int ctl_error(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	say(format, list);
	va_end(list);
	return CTL_FAILED;
}

int ctl_fail(struct ctl *ctl, const char *doing, int result)
{
	const char *words = ctl->client ? kvc_error(ctl->client) : "";
	char shown[2][PRINTABLE_BYTES];

	if (words[0] == '\0')
		words = kvc_strerror(result);
	(void)ctl_error("%s: %s", printable(doing, strlen(doing), shown[0]), printable(words, strlen(words), shown[1]));
	return ctl_exit_of(result);
}

/* As kvclient.h tells it. */
const char *ctl_socket_path(const struct ctl *ctl)
{
	const char *path = ctl->socket_path ? ctl->socket_path : secure_getenv("KVPAGED_SOCKET");

	return path && *path ? path : SOCKET_PATH_DEFAULT;
}

int ctl_open_with(struct ctl *ctl, const struct kvc_options *wanted)
{
	struct kvc_options options = *wanted;
	char reason[REASON_BYTES] = "";
	char shown[PRINTABLE_BYTES];
	int r;

	if (ctl->timeout_ms > UINT32_MAX)
		return ctl_usage("--timeout is too large");
	options.struct_bytes = sizeof(options);
	options.socket_path = ctl_socket_path(ctl);
	options.client_name = "kvctl";
	if (ctl->timeout_ms)
		options.timeout_ms = (uint32_t)ctl->timeout_ms;
	r = kvc_open(&options, &ctl->client, reason, sizeof(reason));
	if (r == KVC_OK)
		return CTL_OK;
	ctl->client = NULL;
	if (reason[0] == '\0')
		(void)snprintf(reason, sizeof(reason), "%s", kvc_strerror(r));
	(void)ctl_error("cannot connect: %s", printable(reason, strlen(reason), shown));
	return ctl_exit_of(r);
}

int ctl_open(struct ctl *ctl, uint32_t flags)
{
	struct kvc_options options = { .pins_max = 1, /* it only asks */ .flags = flags | KVC_NO_RECONNECT };

	return ctl_open_with(ctl, &options);
}

int ctl_space(struct ctl *ctl, const char *name, kvc_space **ret_space)
{
	int r = kvc_space_open(ctl->client, name, NULL, ret_space);

	return r == KVC_OK ? CTL_OK : ctl_fail(ctl, name, r);
}

int ctl_show_stats(struct ctl *ctl, const char *doing, void (*json)(const struct kvc_stats *),
		   int (*text)(const struct kvc_stats *))
{
	struct kvc_stats *stats;
	int status = CTL_OK;
	int r = kvc_stats_get(ctl->client, &stats);

	if (r != KVC_OK)
		return ctl_fail(ctl, doing, r);
	if (ctl->json)
		json(stats);
	else
		status = text(stats);
	(void)kvc_stats_free(stats);
	return status;
}
