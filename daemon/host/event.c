/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A signal is skipped while one is unread. No wake-up is lost: the peer reads the event before it
 * looks for what it means, and what it means was there before the signal.
 */
#include "daemon/host/event.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

int event_create(struct event *ret_event)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	(void)fcntl(fds[1], F_SETPIPE_SZ, 4096); /* pipe memory is accounted to our user */
	*ret_event = (struct event){ .read_fd = fds[0], .write_fd = fds[1] };
	return 0;
}

void event_signal(struct event *event)
{
	static const uint64_t one = 1;
	int unread = 0;

	if (event->write_fd < 0 || (ioctl(event->write_fd, FIONREAD, &unread) == 0 && unread > 0))
		return;
	if (write(event->write_fd, &one, sizeof(one)) < 0)
		return; /* full: it is readable; closed: nobody waits */
}

void event_close(struct event *event)
{
	event->read_fd = close_fd(event->read_fd);
	event->write_fd = close_fd(event->write_fd);
}
