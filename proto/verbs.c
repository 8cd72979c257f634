/* SPDX-License-Identifier: Apache-2.0 */
/* Names of requests. */
#include "proto/verbs.h"

const char *kvp_verb_name(unsigned verb)
{
	static const char *const names[] = {
#define X(name, text) #text,
		KVP_VERB_LIST(X)
#undef X
	};

	return verb < KVP_VERBS ? names[verb] : "?";
}
