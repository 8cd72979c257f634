/* SPDX-License-Identifier: Apache-2.0 */
/* The requests, in the order of their numbers in kvpaged.proto, which begin at KVP_VERB_FIRST. */
#pragma once

#define KVP_VERB_FIRST 2

#define KVP_VERB_LIST(X)                                                                                       \
	X(HELLO, hello)                                                                                        \
	X(OPEN_SPACE, open_space)                                                                              \
	X(APPEND, append)                                                                                      \
	X(FETCH, fetch)                                                                                        \
	X(RELEASE, release)                                                                                    \
	X(MATCH, match)                                                                                        \
	X(DELETE, delete)                                                                                      \
	X(TOUCH, touch)                                                                                        \
	X(PIN, pin)                                                                                            \
	X(UNPIN, unpin)                                                                                        \
	X(STATS, stats)                                                                                        \
	X(EVICT, evict)                                                                                        \
	X(LIST, list)                                                                                          \
	X(DROP_SPACE, drop_space)                                                                              \
	X(CONFIG, config)                                                                                      \
	X(WHY, why)                                                                                            \
	X(SUBSCRIBE, subscribe)                                                                                \
	X(FLUSH, flush) /* reserved */                                                                         \
	X(RESIZE, resize)

enum kvp_verb {
#define X(name, text) KVP_VERB_##name,
	KVP_VERB_LIST(X)
#undef X
	KVP_VERBS,
};

/* "append", of a number of the enumeration; "?" for others. Static storage. */
const char *kvp_verb_name(unsigned verb);
