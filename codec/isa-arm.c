/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of aarch64. Its processors all have what the NEON ones use: no test is needed. */
#include "codec/kernel.h"

static bool neon_supported(void)
{
	return true;
}

static const struct codec_isa isa_neon = CODEC_KERNELS_TABLE(neon, neon, neon, neon);

const struct codec_isa_entry codec_isas[] = {
	{ &isa_neon, neon_supported },
	{ &codec_isa_scalar, NULL },
};
