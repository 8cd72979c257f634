/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory behind a segment's addresses, given back to the system and taken again while the segment is mapped, here
 * and by clients. Not of a segment that is sealed against later writable mappings: the kernel takes a hole for a write.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/host/segment.h"

/* The range reads as zero from now on and takes no memory until it is written or read. Results: 0, negative errno. */
int backing_discard(const struct segment *segment, uint64_t offset, uint64_t bytes);

/*
 * The range is to be used again. Small pages come when they are touched, unless populate. Huge pages are taken from the
 * pool now: those given back are not reserved for us any more, and touching one that is not there is SIGBUS. Results:
 * 0; -ENOSPC or -ENOMEM (there are not enough; some may have been taken); others.
 */
int backing_restore(const struct segment *segment, uint64_t offset, uint64_t bytes, bool populate);
