/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where processes run. A blocking wake-up of another processor takes many times as long as one on the same, so
 * a latency through a socket means something only with its placement.
 */
#pragma once

#include <sys/types.h>

/* Processors of the bench: 0, 1; numbers among those that it may use. */
#define PLACE_ANY (-1)

/* How many processors this process may use. Remembers them for the calls below; before all else here. */
int place_init(void);

/*
 * Binds a process with all its threads (pid 0: this thread alone) to one of the processors, or to all of them. One that
 * is gone is fine.
 */
void place(pid_t pid, int processor);
