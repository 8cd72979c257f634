/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of blocks, as Why and events tell it. The public header's KVC_FATE_* and KVC_EVENT_* are the same. */
#pragma once

#define KVP_FATE_LIST(X)                                                                                       \
	X(UNKNOWN, 0, "unknown", "never stored, or so long ago that it is forgotten")                          \
	X(PRESENT, 1, "present", "resident")                                                                   \
	X(PARTIAL, 2, "partial", "resident, but pages are still missing")                                      \
	X(EVICTED, 3, "evicted", "evicted to make room")                                                       \
	X(EVICTED_REQUEST, 4, "evicted_request", "evicted by request")                                         \
	X(DELETED, 5, "deleted", "deleted by a client, alone or with a block that it descends from")           \
	X(SPACE_DROPPED, 6, "space_dropped", "removed with its space")                                         \
	X(WRITER_GONE, 7, "writer_gone", "dropped unfinished when its writer's connection ended")              \
	X(UNFINISHED, 8, "unfinished", "dropped unfinished: its pages did not come in time, or found no room")   \
	X(DEMOTED, 9, "demoted", "evicted, but on the tier below: a fetch brings it back")                    \
	X(LOST, 10, "lost", "lost by the tier below: it could not be read back")

enum kvp_fate {
#define X(name, number, word, text) KVP_FATE_##name = number,
	KVP_FATE_LIST(X)
#undef X
	KVP_FATES,
};

enum kvp_event_kind {
	KVP_EVENT_STORED = 1,  /* a block is complete */
	KVP_EVENT_REMOVED = 2, /* a block cannot be found any more */
	KVP_EVENT_CLEARED = 3, /* a space is gone with all its blocks */
};

/* "evicted", or the sentence; "?" for an unknown number. Static storage. */
const char *fate_word(unsigned fate);
const char *fate_text(unsigned fate);
