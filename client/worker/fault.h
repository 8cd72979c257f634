/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sentence that goes with an error number. A function that can fail for a reason a person must
 * read takes a struct fault, writes the sentence there and returns a negative errno; main prints
 * it.
 */
#pragma once

#define FAULT_TEXT_MAX 384

struct fault {
	char text[FAULT_TEXT_MAX];
};

/*
 * Writes the sentence (cut at FAULT_TEXT_MAX) and returns error, so that callers can write
 * `return fault_set(fault, -EINVAL, ...)`. error is a negative errno.
 */
__attribute__((format(printf, 3, 4))) int fault_set(struct fault *fault, int error,
						     const char *format, ...);
