/* SPDX-License-Identifier: Apache-2.0 */
/* The public schema, checked, and turned into messages and geometry and back. */
#pragma once

#include "client/kvclient.h"
#include "codec/page.h"

#include "kvpaged.pb-c.h"

/* NULL, or static text: what is wrong with the name of a space. */
const char *schema_check_name(const char *name);

/*
 * Checks every field and fills in defaults (revision, block_tokens). NULL, or static text: which field is
 * wrong, and why.
 */
const char *schema_check(struct kvc_schema *schema);

/* The message points into the schema. */
void schema_pack(const struct kvc_schema *schema, Kvpaged__V1__Schema *ret_message);

/* The numbers of a message as they are, without its texts. */
struct kvc_schema schema_numbers(const Kvpaged__V1__Schema *message);

/*
 * The strings are copied to model and revision (KVP_MODEL_BYTES_MAX + 1 and KVP_REVISION_BYTES_MAX + 1
 * bytes), where the schema then points. NULL, or static text that says what is wrong.
 */
const char *schema_unpack(const Kvpaged__V1__Schema *message, struct kvc_schema *ret_schema, char *model,
			  char *revision);

/* The numbers of the schema. */
void schema_geometry(const struct kvc_schema *schema, struct page_schema *ret_geometry);
