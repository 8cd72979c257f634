/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libsystemd does for us, and nothing else of it: the protocols of sd_notify(3), sd_listen_fds(3) and the
 * journal. systemd-none.c takes its place where kvpaged is built without; then nothing is told and nothing is passed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* The first descriptor that is passed; the others follow it. */
#define SYSTEMD_FDS_BEGIN 3

/*
 * How many descriptors were passed to this process; they are closed at exec from now on, and the environment no longer
 * tells of them. *ret_names (NULL when there are none) is the caller's, as are the names in it, from malloc(). Results:
 * their number, or negative errno.
 */
int systemd_take_fds(char ***ret_names);

/* Whether somebody wants to be told (NOTIFY_SOCKET). */
bool systemd_is_told(void);

/*
 * Sends assignments, one a line. Nothing comes of it when nobody wants to be told, and whoever does not receive it
 * loses it. last: the environment forgets NOTIFY_SOCKET.
 */
void systemd_tell(const char *assignments, bool last);

/* The same with a descriptor, which stays ours. */
void systemd_tell_with_fd(const char *assignments, int fd);

/* How often we must tell that we are alive; 0: nobody wants it. The environment forgets it. */
uint64_t systemd_take_watchdog_us(void);

/* One entry of the journal from "FIELD=value" pieces. Results: 0, or negative errno. */
int systemd_journal_send(const struct iovec *fields, size_t n);
