/* SPDX-License-Identifier: Apache-2.0 */
/* What a test may leave behind: open descriptors and child processes. Findings are printed on stderr. */
#pragma once

#include <stdbool.h>

/* Descriptors above this count as one. */
#define LEFTOVER_FDS_MAX 4096

struct leftover_fds {
	bool open[LEFTOVER_FDS_MAX];
};

/* The descriptors that are open now. */
void leftover_fds_take(struct leftover_fds *fds);

/* Whether the same descriptors are open as then; prints each one that is new or gone. */
bool leftover_fds_same(const struct leftover_fds *before);

/* Whether this process has no child, running or unreaped; says so if it has. */
bool leftover_children_none(void);
