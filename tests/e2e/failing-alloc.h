/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kvpaged whose allocations can be made to fail: daemon/main.c linked with failing-alloc.c and
 *--wrap for the functions below, the C library's that allocate and that the project calls. A test
 *and the daemon share a file of struct failing_alloc; the environment's KVP_FAILING_ALLOC names it
 *to the daemon. What libraries allocate for themselves does not count.
 *
 *	malloc calloc realloc strdup getline __getdelim fdopen scandir
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct failing_alloc {
	_Atomic uint64_t countdown; /* the call that brings it to 0 fails; 0: none does */
	_Atomic uint64_t calls;	    /* counted since the start */
	_Atomic uint64_t failed;
};
