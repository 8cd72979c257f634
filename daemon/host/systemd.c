/* SPDX-License-Identifier: Apache-2.0 */
/* Thin on purpose: no decision is made here, so that systemd-none.c has none to repeat. */
#include "daemon/host/systemd.h"

/* The place in the source that the macros of sd-journal.h would add says nothing to an operator. */
#define SD_JOURNAL_SUPPRESS_LOCATION

#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

_Static_assert(SYSTEMD_FDS_BEGIN == SD_LISTEN_FDS_START, "the protocol of sd_listen_fds(3)");

int systemd_take_fds(char ***ret_names)
{
	*ret_names = NULL;
	return sd_listen_fds_with_names(/* unset_environment= */ 1, ret_names);
}

bool systemd_is_told(void)
{
	return getenv("NOTIFY_SOCKET") != NULL;
}

void systemd_tell(const char *assignments, bool last)
{
	(void)sd_notify(/* unset_environment= */ last, assignments);
}

void systemd_tell_with_fd(const char *assignments, int fd)
{
	(void)sd_pid_notify_with_fds(/* pid= */ 0, /* unset_environment= */ 0, assignments, &fd, 1);
}

uint64_t systemd_take_watchdog_us(void)
{
	uint64_t us;

	return sd_watchdog_enabled(/* unset_environment= */ 1, &us) > 0 ? us : 0;
}

int systemd_journal_send(const struct iovec *fields, size_t n)
{
	return sd_journal_sendv(fields, (int)n);
}
