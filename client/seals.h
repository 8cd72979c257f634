/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory is mapped only when its seals and size make a later SIGBUS impossible, or, for a file, which has no
 * seals, when nobody could cause one but root and the user who serves us.
 */
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <sys/types.h>

struct words;

/*
 * Whether fd is a memfd of exactly this size that has all these seals. what names it in words. Results: 0, or
 * -EPROTO with words.
 */
int seals_check(int fd, const char *what, int seals, uint64_t bytes, struct words *words);

/*
 * Whether fd is a file of exactly this size that only its owner can open (mode 0600), the owner being the user who
 * listens at the socket. If root listens, for a daemon that it starts (socket activation), the owner may be anybody.
 */
int private_file_check(int fd, const char *what, uid_t listener, uint64_t bytes, struct words *words);
