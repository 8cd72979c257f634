/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outcomes of a request or of one item in it, as they go over the wire. Positive numbers are documented
 * outcomes that the direct caller handles; the public header's KVC_* carry the same numbers. Fatal errors are
 * negative errno and never travel.
 */
#pragma once

#define KVP_STATUS_LIST(X)                                                                                     \
	X(OK, 0, "ok")                                                                                         \
	X(MISS, 1, "no such block")                                                                            \
	X(PRESENT, 2, "present already")                                                                       \
	X(PARTIAL, 3, "the block is there, but not every page asked for")                                      \
	X(NO_SPACE, 4, "the arena is full and nothing can be evicted")                                         \
	X(NO_PARENT, 5, "the parent block is not resident")                                                    \
	X(CONFLICT, 6, "the block exists with other tokens or another parent")                                 \
	X(CORRUPT, 7, "the checksum does not match the bytes")                                                 \
	X(QUOTA, 8, "the quota of this user is used up")                                                       \
	X(BUSY, 9, "in use by another session")                                                                \
	X(STALE, 10, "what the handle named is gone")                                                          \
	X(SCHEMA, 11, "the space exists with another schema")                                                  \
	X(NO_SPACE_NAMED, 12, "no such space")                                                                 \
	X(RANGE, 13, "an index, offset or length is out of range")                                             \
	X(INVALID, 14, "a field is malformed or missing")                                                      \
	X(PROTOCOL, 15, "the protocol was violated; the session ends")                                         \
	X(VERSION, 16, "no common protocol version")                                                           \
	X(UNSUPPORTED, 17, "unknown request")                                                                  \
	X(PERMISSION, 18, "not allowed")                                                                       \
	X(STOPPING, 19, "the daemon is stopping")                                                              \
	X(NONFINITE, 20, "a value is NaN or infinite")                                                         \
	X(VALUE_RANGE, 21, "a value is beyond the codec's range")                                              \
	X(TOO_MANY, 22, "too many spaces, blocks or requests")

/* clang-format off */
enum kvp_status {
#define X(name, number, text) KVP_##name = number,
	KVP_STATUS_LIST(X)
#undef X
	_KVP_STATUS_MAX,
};
/* clang-format on */

/* The name ("NO_SPACE") or the sentence of a status; "?" for an unknown number. Static storage. */
const char *status_name(unsigned status);
const char *status_text(unsigned status);
