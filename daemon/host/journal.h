/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of systemd's journal with fields that can be searched for: PRIORITY, MESSAGE_ID, KVPAGED_SESSION,
 * KVPAGED_CLIENT_UID, KVPAGED_CLIENT_PID and the text.
 */
#pragma once

#include <stdbool.h>

#include "daemon/host/log.h"

/*
 * Whether what is written to this descriptor goes to the journal (JOURNAL_STREAM names the same file), and the journal
 * takes entries from here.
 */
bool journal_reads(int fd);

/*
 * text is printable. id NULL: none; client NULL: the line is not about one. Results: 0, or negative errno; then the
 * line must go elsewhere.
 */
int journal_put(int priority, const char *id, const struct log_client *client, const char *text);
