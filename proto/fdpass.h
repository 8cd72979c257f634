/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only place that sends and receives descriptors. Received ones are close-on-exec. When the kernel had to
 * cut the list (MSG_CTRUNC: the receiver's descriptor limit, a small buffer, or a security module's refusal;
 * they look the same), every descriptor that did arrive is closed and the caller gets -EBADMSG: the stream is
 * to be dropped.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/*
 * Sends bytes and n_fds (at most KVP_FDS_MAX) descriptors, which stay the caller's, without blocking and
 * without SIGPIPE. The descriptors go with the first byte. Returns the number of bytes taken, or negative errno
 * (-EAGAIN, -EPIPE, ...).
 */
ssize_t fdpass_send(int socket, const void *bytes, size_t n, const int *fds, size_t n_fds);

/*
 * Receives up to n bytes and at most fds_max descriptors (KVP_FDS_MAX at most), which become the caller's. More
 * descriptors than fds_max, or a cut list: all are closed and -EBADMSG returned. fds_max 0: the peer must send
 * none. flags are recvmsg's. Returns the number of bytes (0 at the end of the stream), or negative errno.
 */
ssize_t fdpass_recv(int socket, void *bytes, size_t n, int flags, int *ret_fds, size_t fds_max,
		    size_t *ret_n_fds);
