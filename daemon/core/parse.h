/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsing of untrusted messages with a bound on memory: protobuf-c allocates from one region that is emptied
 * before each message. A message that would unfold beyond it is as malformed as any other.
 */
#pragma once

#include "daemon/core/internal.h"

/* The request, valid until the next call, or NULL (malformed, or too large when unfolded). Nothing is to be
 * freed. */
const Kvpaged__V1__Request *request_parse(struct core *core, const uint8_t *message, size_t n);
