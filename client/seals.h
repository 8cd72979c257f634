/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory is mapped only when its seals and size make a later SIGBUS impossible. */
#pragma once

#include <fcntl.h>
#include <stdint.h>

struct words;

/*
 * Whether fd is a memfd of exactly this size that has all these seals. what names it in words. Results: 0, or
 * -EPROTO with words.
 */
int seals_check(int fd, const char *what, int seals, uint64_t bytes, struct words *words);
