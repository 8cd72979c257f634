/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the daemon anew. The first call that finds the connection lost waits up to the client's timeout for
 * a daemon, asking with growing pauses; if none came, later calls ask once each, at most twice a second, and
 * fail at once in between, so a worker whose daemon is gone for good is not slowed down. Every space is
 * opened again by its name and schema.
 */
#pragma once

struct kvc_client;
struct connection_options;

/* What this client asks of the daemon. */
void reconnect_options(const struct kvc_client *client, struct connection_options *ret_options);

/*
 * Makes sure that there is a connection; with the client's lock. Results: 0; -ENOTCONN (there is none, in
 * words); another error or positive status when trying again would not help.
 */
int reconnect_if_needed(struct kvc_client *client);
