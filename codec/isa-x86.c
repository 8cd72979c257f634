/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of x86-64, and the features that each was compiled with. The tests are here and not
 * beside the kernels, because those files may use the features anywhere. The compiler's own check
 * includes what the operating system saves.
 */
#include <cpuid.h>

#include "codec/kernel.h"

/* Not among the names that every compiler's __builtin_cpu_supports() knows. */
static bool f16c_supported(void)
{
	unsigned eax, ebx, ecx, edx;

	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

static bool avx2_supported(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c_supported();
}

static bool avx512_supported(void)
{
	return avx2_supported() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi") &&
	       __builtin_cpu_supports("avx512vnni");
}

static const struct codec_isa isa_avx2 = CODEC_KERNELS_TABLE(avx2, avx2, avx2, avx2);
static const struct codec_isa isa_avx512 = CODEC_KERNELS_TABLE(avx512, avx512, avx512, avx512);

const struct codec_isa_entry codec_isas[] = {
	{ &isa_avx512, avx512_supported },
	{ &isa_avx2, avx2_supported },
	{ &codec_isa_scalar, NULL },
};
