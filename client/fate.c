/* SPDX-License-Identifier: Apache-2.0 */
/* Words for what becomes of blocks, and that the public numbers are those on the wire. */
#include "client/kvclient.h"
#include "proto/fate.h"

#define X(name, number, word, text)                                                                            \
	_Static_assert((int)KVC_FATE_##name == (int)KVP_FATE_##name, "public and wire numbers");
KVP_FATE_LIST(X)
#undef X

_Static_assert((int)KVC_EVENT_STORED == (int)KVP_EVENT_STORED, "public and wire numbers");
_Static_assert((int)KVC_EVENT_REMOVED == (int)KVP_EVENT_REMOVED, "public and wire numbers");
_Static_assert((int)KVC_EVENT_CLEARED == (int)KVP_EVENT_CLEARED, "public and wire numbers");

const char *kvc_fate_word(int fate)
{
	return fate_word((unsigned)fate);
}

const char *kvc_fate_text(int fate)
{
	return fate_text((unsigned)fate);
}
