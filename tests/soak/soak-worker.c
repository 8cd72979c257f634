/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One reader or writer of the torture test (tests/torture) as a program of its own, for a daemon that somebody else
 * starts, stops and watches: soak-worker SOCKET SEED NUMBER read|write. Works until SIGTERM; ends with 1 when it finds
 * something that must not be.
 */
#include "base/units.h"
#include "tests/torture/torture.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct torture torture;

static void on_term(int number)
{
	atomic_store(&torture.stop, true);
}

int main(int argc, char **argv)
{
	struct worker worker = { .torture = &torture };
	struct sigaction action = { .sa_handler = on_term, .sa_flags = SA_RESTART };
	uint64_t number;

	if (argc != 5 || units_parse_u64(argv[2], &torture.seed) != 0 || units_parse_u64(argv[3], &number) != 0 ||
	    strlen(argv[1]) >= sizeof(torture.socket_path)) {
		fprintf(stderr, "Usage: soak-worker SOCKET SEED NUMBER read|write\n");
		return 2;
	}
	(void)snprintf(torture.socket_path, sizeof(torture.socket_path), "%s", argv[1]);
	worker.number = (unsigned)number;
	worker.random = torture.seed * UINT64_C(0x9e3779b97f4a7c15) + number;
	worker.writes = strcmp(argv[4], "write") == 0;
	(void)sigaction(SIGTERM, &action, NULL);
	pattern_init();
	if (worker.writes)
		torture_write(&worker);
	else
		torture_read(&worker);
	return 0;
}
