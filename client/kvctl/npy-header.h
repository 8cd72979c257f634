/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a .npy file as text: a Python dict literal with 'descr', 'fortran_order' and 'shape', once each. */
#pragma once

#include <stddef.h>

#include "client/kvctl/npy.h"

/*
 * Reads the dict; dtype, shape and elements of npy are set. NULL: done; otherwise what is wrong, in words (static
 * text).
 */
const char *npy_header_parse(const char *text, size_t n, struct npy *npy);
