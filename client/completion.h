/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completions of submitted appends. What the caller polls is an epoll instance, the same for the client's life,
 * over
 *  - the session's event (8 bytes to read, like an eventfd), which the daemon signals after each reply to an
 *    Append;
 *  - the session's socket, for its hang-up only: outstanding completions then become errors;
 *  - an eventfd of our own, signalled exactly while finished jobs wait for kvc_reap().
 * An epoll instance rather than the session's event itself, because a caller's event loop must not notice
 * reconnects: epoll forgets a descriptor whose number is given to another file.
 */
#pragma once

struct append_job;
struct kvc_client;

/*
 * Creates and frees the descriptors. Closing them touches nothing that a parent process shares. Results: 0,
 * negative errno.
 */
int completion_init(struct kvc_client *client);
void completion_deinit(struct kvc_client *client);

/*
 * Watches the connection's descriptors, or no longer; the latter also when they are not watched. Results: 0,
 * negative errno.
 */
int completion_watch(struct kvc_client *client);
void completion_unwatch(struct kvc_client *client);

/* A job is finished: queues it and signals. The queue owns it then. */
void completion_push(struct kvc_client *client, struct append_job *job);
