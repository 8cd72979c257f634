/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library to preload into kvpaged, kvctl and programs with libkvclient, under which the kernel is at its most
 * pedantic: transfers on stream sockets are cut short, often to one byte; calls that may be interrupted are; sockets
 * are full although there is room; accept4() fails; clocks jump. All of it is allowed to happen, and a program that
 * copes works as always. Only calls of the programs named and of libkvclient.so are touched, not those of tests.
 *
 * Environment: KVP_SHORT_IO names a file of struct short_io, shared with the test that commands it; or
 * KVP_SHORT_IO_SEED=N for short and interrupted calls alone.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct short_io {
	_Atomic uint64_t seed; /* of the random choices; 0: transfers are left alone */
	_Atomic uint64_t cut;  /* how often that was done, as below */
	_Atomic uint64_t interrupted;
	_Atomic uint64_t refused;
	_Atomic uint32_t accept_failures; /* so many accept4() are yet to fail */
	_Atomic uint32_t accept_errno;
	_Atomic int64_t wall_ns; /* added to CLOCK_REALTIME and time() */
	_Atomic int64_t monotonic_ns;
};

/* Of this process. Exported by the library: dlsym(RTLD_DEFAULT, "short_io_control"). */
struct short_io *short_io_control(void);
