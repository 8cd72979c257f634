/* SPDX-License-Identifier: Apache-2.0 */
/* See short-io.h. Each wrapper decides by a random number, then calls what it hides. */
#include "tests/lib/short-io.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

/* What the wrapper of this name hides. */
#define HIDDEN(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

/* Whether the calling function belongs to what is to suffer. */
#define CONCERNED() is_concerned(__builtin_return_address(0))

static struct short_io own;
static struct short_io *control = &own;
static bool whole_program;
static _Atomic uint64_t draws;

__attribute__((constructor)) static void prepare(void)
{
	const char *path = getenv("KVP_SHORT_IO"), *seed = getenv("KVP_SHORT_IO_SEED");
	const char *name = program_invocation_short_name;
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *memory = MAP_FAILED;

	whole_program = strncmp(name, "kvpaged", 7) == 0 || strcmp(name, "kvctl") == 0;
	if (seed)
		atomic_store(&own.seed, strtoull(seed, NULL, 10));
	if (fd >= 0)
		memory = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		(void)close(fd);
	if (memory != MAP_FAILED)
		control = memory;
}

struct short_io *short_io_control(void)
{
	return control;
}

static bool is_concerned(const void *caller)
{
	Dl_info info;

	return whole_program ||
	       (dladdr(caller, &info) != 0 && info.dli_fname && strstr(info.dli_fname, "libkvclient"));
}

static uint64_t draw(void)
{
	uint64_t x = atomic_load(&control->seed) * UINT64_C(0x9e3779b97f4a7c15) + atomic_fetch_add(&draws, 1);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static bool is_active(void)
{
	return atomic_load(&control->seed) != 0;
}

/* Whether this call ends before it begins. */
static bool interrupts(void)
{
	if (!is_active() || draw() % 4 != 0)
		return false;
	atomic_fetch_add(&control->interrupted, 1);
	errno = EINTR;
	return true;
}

static bool is_stream(int fd)
{
	int type = 0;
	socklen_t n = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM;
}

/* How much of n bytes is let through. */
static size_t shorten(size_t n)
{
	uint64_t number = draw();
	size_t limit = number % 8 < 4 ? 1 : number % 8 < 7 ? 1 + (number >> 8) % 64 : n;

	if (n <= limit)
		return n;
	atomic_fetch_add(&control->cut, 1);
	return limit;
}

/* A socket that would not wait has no room now and then. */
static bool refuses(int flags)
{
	if (!(flags & MSG_DONTWAIT) || draw() % 8 != 0)
		return false;
	atomic_fetch_add(&control->refused, 1);
	errno = EAGAIN;
	return true;
}

/* The message with its first part cut; the others are dropped. */
static struct msghdr cut_message(const struct msghdr *message, struct iovec *part)
{
	struct msghdr cut = *message;

	*part = message->msg_iov[0];
	part->iov_len = shorten(part->iov_len);
	cut.msg_iov = part;
	cut.msg_iovlen = 1;
	return cut;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct iovec part;
	struct msghdr cut;

	if (!CONCERNED() || !is_active() || !is_stream(fd) || message->msg_iovlen == 0 ||
	    message->msg_iov[0].iov_len == 0)
		return HIDDEN(sendmsg)(fd, message, flags);
	if (interrupts() || refuses(flags))
		return -1;
	cut = cut_message(message, &part);
	return HIDDEN(sendmsg)(fd, &cut, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	struct iovec part;
	struct msghdr cut;
	ssize_t n;

	if (!CONCERNED() || !is_active() || !is_stream(fd) || message->msg_iovlen == 0)
		return HIDDEN(recvmsg)(fd, message, flags);
	if (interrupts())
		return -1;
	cut = cut_message(message, &part);
	n = HIDDEN(recvmsg)(fd, &cut, flags);
	message->msg_controllen = cut.msg_controllen;
	message->msg_flags = cut.msg_flags;
	return n;
}

ssize_t recv(int fd, void *bytes, size_t n, int flags)
{
	if (!CONCERNED() || !is_active() || !is_stream(fd) || (flags & MSG_WAITALL))
		return HIDDEN(recv)(fd, bytes, n, flags);
	return interrupts() ? -1 : HIDDEN(recv)(fd, bytes, shorten(n), flags);
}

int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	return CONCERNED() && interrupts() ? -1 : HIDDEN(poll)(fds, n, timeout_ms);
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout_ms)
{
	return CONCERNED() && interrupts() ? -1 : HIDDEN(epoll_wait)(fd, events, n, timeout_ms);
}

int epoll_pwait(int fd, struct epoll_event *events, int n, int timeout_ms, const sigset_t *mask)
{
	return CONCERNED() && interrupts() ? -1 : HIDDEN(epoll_pwait)(fd, events, n, timeout_ms, mask);
}

int accept4(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
	uint32_t left = atomic_load(&control->accept_failures);

	if (CONCERNED() && interrupts())
		return -1;
	if (CONCERNED() && left > 0) {
		atomic_store(&control->accept_failures, left - 1);
		errno = (int)atomic_load(&control->accept_errno);
		return -1;
	}
	return HIDDEN(accept4)(fd, address, n, flags);
}

int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	int r = HIDDEN(clock_gettime)(clock, ret_time);
	int64_t ns = 0;

	if (r < 0 || !CONCERNED())
		return r;
	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
		ns = atomic_load(&control->wall_ns);
	else if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME)
		ns = atomic_load(&control->monotonic_ns);
	ns += ret_time->tv_sec * NS_PER_S + ret_time->tv_nsec;
	ret_time->tv_sec = ns / NS_PER_S;
	ret_time->tv_nsec = ns % NS_PER_S;
	return r;
}

time_t time(time_t *ret_time)
{
	time_t now = HIDDEN(time)(NULL);

	if (CONCERNED())
		now += atomic_load(&control->wall_ns) / NS_PER_S;
	if (ret_time)
		*ret_time = now;
	return now;
}
