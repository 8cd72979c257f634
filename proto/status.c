/* SPDX-License-Identifier: Apache-2.0 */
/* Names and sentences of the wire's outcomes, from the one list. */
#include "proto/status.h"

const char *status_name(unsigned status)
{
	static const char *const names[] = {
#define X(name, number, text) [number] = #name,
		KVP_STATUS_LIST(X)
#undef X
	};

	return status < _KVP_STATUS_MAX ? names[status] : "?";
}

const char *status_text(unsigned status)
{
	static const char *const texts[] = {
#define X(name, number, text) [number] = text,
		KVP_STATUS_LIST(X)
#undef X
	};

	return status < _KVP_STATUS_MAX ? texts[status] : "?";
}
