/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses a table of kernels by what the CPU has, or by name. */
#include "client/worker/dot.h"

#ifdef WORKER_HAVE_X86
#include <cpuid.h>
#endif
#include <stdbool.h>
#include <string.h>

struct candidate {
	const struct dot_kernels *kernels;
	bool (*usable)(void);
};

static bool usable_always(void)
{
	return true;
}

#ifdef WORKER_HAVE_X86
/* Not among the names that every compiler's __builtin_cpu_supports() knows. */
static bool f16c_supported(void)
{
	unsigned eax, ebx, ecx, edx;

	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

static bool usable_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c_supported();
}

static bool usable_avx512(void)
{
	return usable_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512vl");
}
#endif

/* Best first. */
static const struct candidate candidates[] = {
#ifdef WORKER_HAVE_X86
	{ &dot_kernels_avx512, usable_avx512 },
	{ &dot_kernels_avx2, usable_avx2 },
#endif
	{ &dot_kernels_scalar, usable_always },
};

const struct dot_kernels *dot_kernels_select(const char *name)
{
	bool any = !name || !*name;

	for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
		const struct candidate *c = &candidates[i];

		if ((any || strcmp(name, c->kernels->name) == 0) && c->usable())
			return c->kernels;
	}
	return NULL;
}
