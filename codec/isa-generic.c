/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of a processor family without its own: the scalar ones. */
#include "codec/kernel.h"

const struct codec_isa_entry codec_isas[] = {
	{ &codec_isa_scalar, NULL },
};
