/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of seals, owners and sizes; see seals.h. */
#include "client/seals.h"

#include "client/words.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

static int size_check(const struct stat *facts, const char *what, uint64_t bytes, struct words *words)
{
	if (facts->st_size >= 0 && (uint64_t)facts->st_size == bytes)
		return 0;
	words_set(words, "%s is not of the announced size of %" PRIu64 " bytes", what, bytes);
	return -EPROTO;
}

int seals_check(int fd, const char *what, int seals, uint64_t bytes, struct words *words)
{
	struct stat facts;
	int held = fcntl(fd, F_GET_SEALS);

	if (held < 0) {
		words_set(words, "%s is not sealed memory", what);
		return -EPROTO;
	}
	if ((held & seals) != seals) {
		words_set(words, "%s lacks seals: it has 0x%x and must have 0x%x", what, (unsigned)held,
			  (unsigned)seals);
		return -EPROTO;
	}
	/* The size cannot change any more: SHRINK is among the seals. */
	if (fstat(fd, &facts) < 0)
		return -EPROTO;
	return size_check(&facts, what, bytes, words);
}

int private_file_check(int fd, const char *what, uid_t listener, uint64_t bytes, struct words *words)
{
	struct stat facts;

	if (fstat(fd, &facts) < 0 || !S_ISREG(facts.st_mode) || (facts.st_mode & 07777) != 0600) {
		words_set(words, "%s lacks seals, and is not a file of mode 0600", what);
		return -EPROTO;
	}
	if (facts.st_uid != listener && listener != 0) {
		words_set(words, "%s lacks seals, and is a file of user %u, while user %u serves the socket", what,
			  (unsigned)facts.st_uid, (unsigned)listener);
		return -EPROTO;
	}
	return size_check(&facts, what, bytes, words);
}
