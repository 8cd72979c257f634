/* SPDX-License-Identifier: Apache-2.0 */
/* Seal and size check; see seals.h. */
#include "client/seals.h"

#include "client/words.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

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
	if (fstat(fd, &facts) < 0 || facts.st_size < 0 || (uint64_t)facts.st_size != bytes) {
		words_set(words, "%s is not of the announced size of %" PRIu64 " bytes", what, bytes);
		return -EPROTO;
	}
	return 0;
}
