/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a process whose own invariants no longer hold. */
#include "base/contract.h"

#include <stdio.h>
#include <stdlib.h>

void contract_failed(const char *condition, const char *file, int line, const char *function)
{
	(void)fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, condition);
	abort();
}
