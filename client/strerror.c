/* SPDX-License-Identifier: Apache-2.0 */
/* Results and the version in words. */
#include "client/kvclient.h"
#include "proto/status.h"

#include "kvpaged-version.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The public numbers are the protocol's. */
#define X(name, number, text) _Static_assert((int)KVC_##name == (int)KVP_##name, "public and wire numbers");
KVP_STATUS_LIST(X)
#undef X

const char *kvc_strerror(int result)
{
	static _Thread_local char text[64];
	const char *known;

	if (result >= 0)
		return status_text((unsigned)result);
	known = result > INT_MIN ? strerrordesc_np(-result) : NULL;
	if (known)
		return known;
	(void)snprintf(text, sizeof(text), "unknown error %d", result);
	return text;
}

const char *kvc_version(void)
{
	return KVPAGED_VERSION;
}
