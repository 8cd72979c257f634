/* SPDX-License-Identifier: Apache-2.0 */
/* What the service manager kept for us, or new memory; see keep.h. */
#include "daemon/host/keep.h"

#include "base/cleanup.h"
#include "daemon/core/core.h"
#include "daemon/host/compat.h"
#include "daemon/host/systemd.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static void keep_closep(struct keep *keep)
{
	keep_close(keep);
}

const char *keep_fault(const struct keep_options *options, const struct segment *segment)
{
	if (options->arena.huge == SEGMENT_HUGE_YES && !segment->huge)
		return "it is not in huge pages, and arena.huge_pages is yes";
	if (options->arena.huge == SEGMENT_HUGE_NO && segment->huge && !options->path)
		return "it is in huge pages, and arena.huge_pages is no";
	return core_arena_fault(segment->memory, segment->bytes, options->blocks_max);
}

/* Why the descriptor is not that of an arena as we make it, before it is mapped. NULL: it is. */
static const char *stored_fault(const struct keep_options *options)
{
	int seals = fcntl(options->stored_fd, F_GET_SEALS);
	struct stat facts;

	if (options->arena.strict)
		return "arena.seal is strict";
	if (fstat(options->stored_fd, &facts) < 0 || seals < 0 || (seals & SEALS) != SEALS)
		return "it is not sealed memory";
	if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return "it is sealed against writing";
	if (facts.st_uid != geteuid() || (facts.st_mode & 07777) != 0600)
		return "it is not ours alone";
	if ((uint64_t)facts.st_size != options->arena.bytes)
		return "it has another size than arena.bytes";
	return NULL;
}

/* Results: 0 and a kept arena; -EINVAL and why it is not used. */
static int open_stored(const struct keep_options *options, struct segment *ret_segment, const char **ret_why)
{
	_cleanup_close_ int fd = fcntl(options->stored_fd, F_DUPFD_CLOEXEC, 0);
	struct segment segment;

	*ret_why = stored_fault(options);
	if (!*ret_why && (fd < 0 || segment_adopt(fd, options->arena.bytes, &segment) < 0))
		*ret_why = "it cannot be mapped";
	if (*ret_why)
		return -EINVAL;
	(void)take_fd(&fd);
	*ret_why = keep_fault(options, &segment);
	if (*ret_why) {
		segment_close(&segment);
		return -EINVAL;
	}
	*ret_segment = segment;
	return 0;
}

/* Mapping every page of a large arena takes longer than all else at a start; it is for memory that is missing. */
static bool is_allocated(const struct segment *segment)
{
	struct stat facts;

	return fstat(segment->fd, &facts) == 0 && (uint64_t)facts.st_blocks * 512 >= segment->bytes;
}

int keep_open(const struct keep_options *options, struct log *log, struct keep *ret_keep, struct host_error *error)
{
	_cleanup_(keep_closep) struct keep keep = KEEP_NULL;
	const char *why = "arena.path is set";
	int r = 0;

	if (options->stored_fd >= 0) {
		keep.recover = !options->path && open_stored(options, &keep.arena, &why) == 0;
		if (!keep.recover) {
			log_message(log, MESSAGE_ARENA_LEFT,
				    "the arena that the service manager kept is not used: %s; the cache begins empty",
				    why);
			systemd_tell("FDSTOREREMOVE=1\nFDNAME=" KEEP_NAME, /* last= */ false);
		}
	}
	if (options->path)
		return keep_open_file(options, log, ret_keep, error);
	if (!keep.recover)
		r = segment_create_arena(&options->arena, log, &keep.arena, error);
	else if (options->arena.prefault && !is_allocated(&keep.arena))
		r = segment_prefault(&keep.arena, options->arena.progress, error);
	if (r < 0)
		return r;
	keep.storable = !options->arena.strict;
	*ret_keep = keep;
	keep = (struct keep)KEEP_NULL;
	return 0;
}

void keep_close(struct keep *keep)
{
	segment_close(&keep->arena);
	keep->lock_fd = close_fd(keep->lock_fd);
}

/* Memory cannot be polled for its end. */
void keep_store(const struct keep *keep)
{
	if (keep->storable)
		systemd_tell_with_fd("FDSTORE=1\nFDNAME=" KEEP_NAME "\nFDPOLL=0", keep->arena.fd);
}
