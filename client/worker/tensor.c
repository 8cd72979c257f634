/* SPDX-License-Identifier: Apache-2.0 */
/* The table of known tensor formats. */
#include "client/worker/tensor.h"

static const struct tensor_format formats[] = {
	{ TENSOR_F32, "F32", 1, 4 },
	{ TENSOR_F16, "F16", 1, 2 },
	{ TENSOR_Q4_0, "Q4_0", 32, 18 },
	{ TENSOR_Q4_1, "Q4_1", 32, 20 },
	{ TENSOR_Q8_0, "Q8_0", 32, 34 },
	{ TENSOR_Q6_K, "Q6_K", 256, 210 },
};

const struct tensor_format *tensor_format_find(uint32_t type)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if ((uint32_t)formats[i].type == type)
			return &formats[i];
	return NULL;
}
