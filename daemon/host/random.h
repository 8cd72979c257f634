/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers that must differ from one daemon process to the next. */
#pragma once

#include <stdint.h>

/* Unpredictable. Results: 0, or negative errno of getrandom(). */
int random_u64(uint64_t *ret_value);

/*
 * Names this daemon process: never 0, and not repeated (wall-clock nanoseconds mixed with random
 * bits: a clock that jumps back does not bring an old number again). Results as above.
 */
int random_incarnation(uint64_t *ret_incarnation);
