/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of systemd.c where kvpaged is built without libsystemd. */
#include "daemon/host/systemd.h"

#include <errno.h>

int systemd_take_fds(char ***ret_names)
{
	*ret_names = NULL;
	return 0;
}

bool systemd_is_told(void)
{
	return false;
}

void systemd_tell(const char *assignments, bool last)
{
}

void systemd_tell_with_fd(const char *assignments, int fd)
{
}

uint64_t systemd_take_watchdog_us(void)
{
	return 0;
}

int systemd_journal_send(const struct iovec *fields, size_t n)
{
	return -ENOSYS;
}
