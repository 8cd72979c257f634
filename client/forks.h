/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether this is still the process that it was, without asking the kernel: a handler that runs in every child of
 * fork() counts. Children made by bare system calls are not noticed.
 */
#pragma once

#include <stdint.h>

/* Installs the handler, once. Results: 0; negative errno. Any thread. */
int forks_watch(void);

/* Forks between the first forks_watch() and this process. */
uint32_t forks_count(void);
