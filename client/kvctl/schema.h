/* SPDX-License-Identifier: Apache-2.0 */
/* Names of types and codecs as people write them, and a space's schema as JSON. */
#pragma once

#include <stdint.h>

#include "base/json.h"
#include "client/kvclient.h"

/* "f32", "f16", "bf16"; "?" for an unknown number. Static storage. */
const char *dtype_name(uint32_t dtype);

/* One of CODEC_NAMES; "?" for an unknown number. Static storage. */
const char *codec_name(uint32_t codec);

/* The number of a name, or 0. */
uint32_t dtype_number(const char *name);
uint32_t codec_number(const char *name);

/* Every codec's name in one text, for messages. */
#define CODEC_NAMES                                                                                \
	"f32, f16, bf16, q8, q6, q5, q4, t8, t6, t5, t4, t8g32, t6g32, t5g32, t4g32, t8g16, t6g16, "   \
	"t5g16, t4g16"
#define DTYPE_NAMES "f32, f16, bf16"

/* The schema as members of the open object. */
void json_kv_schema(struct json *json, const struct kvc_schema *schema);
