/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each user (uid) holds, against limits. Sessions of one uid share a struct user; it lives while a session
 * refers to it. Everything charged is discharged by the one who charged it; a user that goes must hold nothing.
 */
#pragma once

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct user {
	struct list link;
	uint32_t uid;
	uint32_t sessions;
	uint64_t staging_bytes;
	uint64_t pinned_bytes; /* under leases */
	uint64_t hazard_bytes; /* named by hazards, as the last scan saw them */
	uint32_t records;      /* of control memory, of all sessions */
};

/* The user of this uid with one session more, or NULL (out of memory). */
struct user *user_ref(struct list *users, uint32_t uid);

/* One session less; the last one frees the user. Returns NULL. */
struct user *user_unref(struct user *user);

/* Adds amount to *held if the sum stays within max. Overflow counts as beyond it. */
bool account_charge(uint64_t *held, uint64_t amount, uint64_t max);

/* Takes it back; more than was charged is a bug. */
void account_discharge(uint64_t *held, uint64_t amount);
