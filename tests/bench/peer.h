/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What packed attention is measured against, as fast as this processor has it: reading bytes and
 * nothing more, and the plain product of a query with rows of f16. peer-x86.c and peer-generic.c
 * have them; peer-read.h is the loop that both share.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Reads n bytes, once each, in order. Returns a sum of them, so that nothing can be left out. */
uint64_t peer_read(const void *bytes, size_t n);

/* scores[t] = the product of the query with row t. tokens and head_dim are multiples of 16. */
void peer_f16_dot(const void *rows, size_t tokens, size_t head_dim, const float *query,
		  float *scores);
