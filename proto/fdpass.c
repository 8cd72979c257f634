/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving control buffer has room for as many descriptors as one message can carry (253, SCM_MAX_FD), so
 * that a flood arrives whole and can be closed here instead of being cut silently.
 */
#include "proto/fdpass.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "proto/limits.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define SCM_MAX_FD 253

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * SCM_MAX_FD)];
};

ssize_t fdpass_send(int socket, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
	struct iovec part = { .iov_base = (void *)bytes, .iov_len = n };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	union control control = { .align = { 0 } };
	ssize_t sent;

	kvp_assert(n > 0 && n_fds <= KVP_FDS_MAX);
	if (n_fds > 0) {
		struct cmsghdr *header;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(header), fds, sizeof(int) * n_fds);
	}
	do
		sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

/* Copies the message's descriptors out, or closes them once there are too many. Returns their number, received
 * or closed. */
static size_t collect_fds(struct msghdr *message, int *fds, size_t fds_max)
{
	size_t count = 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
		size_t n;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++, count++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
			if (count < fds_max)
				fds[count] = fd;
			else
				(void)close_fd(fd);
		}
	}
	return count;
}

ssize_t fdpass_recv(int socket, void *bytes, size_t n, int flags, int *ret_fds, size_t fds_max,
		    size_t *ret_n_fds)
{
	struct iovec part = { .iov_base = bytes, .iov_len = n };
	union control control;
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int fds[KVP_FDS_MAX];
	size_t count;
	ssize_t got;

	kvp_assert(n > 0 && fds_max <= KVP_FDS_MAX);
	do
		got = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	count = collect_fds(&message, fds, fds_max);
	if (count > fds_max || (message.msg_flags & MSG_CTRUNC)) {
		for (size_t i = 0; i < count && i < fds_max; i++)
			(void)close_fd(fds[i]);
		return -EBADMSG;
	}
	if (fds_max > 0) {
		memcpy(ret_fds, fds, sizeof(int) * count);
		*ret_n_fds = count;
	}
	return got;
}
