/* SPDX-License-Identifier: Apache-2.0 */
/* Completions; see completion.h. */
#include "client/completion.h"

#include "base/cleanup.h"
#include "client/job.h"
#include "client/client.h"
#include "client/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int epoll_watch(int epoll, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int completion_init(struct kvc_client *client)
{
	client->completion_fd = epoll_create1(EPOLL_CLOEXEC);
	if (client->completion_fd < 0)
		return -errno;
	client->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (client->finished_fd < 0)
		return -errno;
	return epoll_watch(client->completion_fd, client->finished_fd, EPOLLIN);
}

void completion_deinit(struct kvc_client *client)
{
	struct list *node;

	while ((node = list_first(&client->finished))) {
		list_unlink(node);
		append_job_free(list_entry(node, struct append_job, link));
	}
	client->finished_fd = close_fd(client->finished_fd);
	client->completion_fd = close_fd(client->completion_fd);
}

int completion_watch(struct kvc_client *client)
{
	const struct connection *connection = &client->connection;
	int r = epoll_watch(client->completion_fd, connection->rpc.socket, EPOLLRDHUP);

	if (r == 0 && connection->event_fd >= 0)
		r = epoll_watch(client->completion_fd, connection->event_fd, EPOLLIN);
	if (r < 0)
		words_set(&client->words, "cannot watch the connection: %s", kvc_strerror(r));
	return r;
}

/* Explicit, since the daemon may hold the eventfd open and would keep it watched. */
void completion_unwatch(struct kvc_client *client)
{
	const struct connection *connection = &client->connection;

	if (connection->rpc.socket >= 0)
		(void)epoll_ctl(client->completion_fd, EPOLL_CTL_DEL, connection->rpc.socket, NULL);
	if (connection->event_fd >= 0)
		(void)epoll_ctl(client->completion_fd, EPOLL_CTL_DEL, connection->event_fd, NULL);
}

void completion_push(struct kvc_client *client, struct append_job *job)
{
	list_push_back(&client->finished, &job->link);
	client->n_finished++;
	if (client_is_ours(client)) /* a forked child that frees its copy shares the eventfd with the parent */
		(void)eventfd_write(client->finished_fd, 1);
}

/* Resets the event without blocking, whatever the descriptor's flags are: they are the daemon's. */
static void event_reset(int fd)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	eventfd_t count;

	if (fd >= 0 && poll(&readable, 1, 0) == 1 && (readable.revents & POLLIN))
		(void)eventfd_read(fd, &count);
}

/*
 * Takes what is there. The session's event is reset first: what arrives after the look at the socket signals
 * anew. A connection that is found lost has ended its jobs with an error by then; it is no longer watched, or
 * its hang-up would stay readable.
 */
static size_t completions_take(struct kvc_client *client, struct kvc_completion *completions, size_t n)
{
	size_t taken = 0;

	event_reset(client->connection.event_fd);
	if (connection_alive(&client->connection))
		(void)rpc_collect(&client->connection.rpc);
	if (!connection_alive(&client->connection))
		completion_unwatch(client);
	while (taken < n && !list_empty(&client->finished)) {
		struct append_job *job = list_entry(list_first(&client->finished), struct append_job, link);

		list_unlink(&job->link);
		client->n_finished--;
		append_job_report(job, &completions[taken++]);
		append_job_free(job);
	}
	if (list_empty(&client->finished))
		event_reset(client->finished_fd);
	return taken;
}

int kvc_completion_fd(kvc_client *client)
{
	if (!client)
		return -EINVAL;
	return client_is_ours(client) ? client->completion_fd : -ECHILD;
}

/* Waits without the lock, so that other threads can go on. Returns whether there may be completions now. */
static bool completion_wait(const struct kvc_client *client, uint64_t deadline_ns)
{
	struct pollfd readable = { .fd = client->completion_fd, .events = POLLIN };
	int left_ms = clock_left_ms(deadline_ns);

	return left_ms > 0 && (poll(&readable, 1, left_ms) >= 0 || errno == EINTR);
}

int kvc_reap(kvc_client *client, struct kvc_completion *completions, size_t n, uint32_t wait_ms, size_t *ret_n)
{
	uint64_t deadline_ns = clock_now_ns(CLOCK_MONOTONIC) + wait_ms * NS_PER_MS;
	size_t taken;

	if (!client || !ret_n || (n > 0 && !completions))
		return client_refuse(client, -EINVAL, "kvc_reap: an argument is NULL");
	do {
		int r = client_lock(client);

		if (r < 0)
			return r;
		taken = completions_take(client, completions, n);
		client_unlock(client);
	} while (taken == 0 && n > 0 && completion_wait(client, deadline_ns));
	*ret_n = taken;
	return KVC_OK;
}
