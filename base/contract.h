/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assertions for our own bugs: preconditions, invariants, both ends of a path. They stay on in release builds
 * (NDEBUG does not remove them). What comes from outside is never checked with these: it gets an error.
 */
#pragma once

#define kvp_assert(condition)                                                                                  \
	((condition) ? (void)0 : contract_failed(#condition, __FILE__, __LINE__, __func__))

/* a implies b */
#define kvp_implies(a, b) kvp_assert(!(a) || (b))

#define kvp_unreachable() contract_failed("unreachable", __FILE__, __LINE__, __func__)

/* Prints the broken contract on stderr and aborts. */
__attribute__((noreturn, cold)) void contract_failed(const char *condition, const char *file, int line,
						     const char *function);
