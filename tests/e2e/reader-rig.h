/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the end-to-end tests of readers share: a daemon with a short time of grace, a client with a space "s" of f32
 * (so that values come back as they went), and a reader. Everything fails the test when it does not work.
 */
#pragma once

#include "tests/e2e/test-client-rig.h"

struct rig {
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	kvc_reader *reader;
};

kvc_client *open_with(const struct test_daemon *d, const struct kvc_options *wanted);

/* Another client of a running daemon, rig->d. */
void rig_join(struct rig *rig, const struct kvc_options *options);

void rig_start(struct rig *rig);
void rig_stop(struct rig *rig);

/* The key's status, and the handle with KVC_OK. */
int pin_try(struct rig *rig, const char *key, const struct kvc_range *range, kvc_block **ret_block);
kvc_block *pin(struct rig *rig, const char *key);

int find(struct rig *rig, const char *key);

/* Compares every value of K of a pinned block in place. Whether it was the block all the while. */
bool expect_block(const kvc_block *block, uint32_t seed);

/* Fetches K of a whole block with the reader and compares it. The call's result, or the block's status. */
int fetch(struct rig *rig, const char *key, uint32_t seed);
