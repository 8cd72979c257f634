/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock decides between daemons: it is taken before the name is looked at and held until the
 * name is gone. A lock file is removed only by who holds its lock; who waited for it sees that the
 * name no longer leads to what it locked and begins anew.
 */
#include "daemon/host/socket.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LOCK_SUFFIX ".lock"
#define LOCK_ATTEMPTS_MAX 100

static void listen_socket_closep(struct listen_socket *socket)
{
	listen_socket_close(socket);
}

static void lock_path(const char *path, char buffer[PATH_MAX])
{
	(void)snprintf(buffer, PATH_MAX, "%s" LOCK_SUFFIX, path);
}

static int address_of(const char *path, struct sockaddr_un *ret_address, struct host_error *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(address.sun_path))
		return host_error_set(error, HOST_EXIT_CONFIG,
				      "socket.path: %zu bytes long; it must have 1 to %zu", n,
				      sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, n);
	*ret_address = address;
	return 0;
}

/* One try. Results: 1 (locked), 0 (the file was replaced meanwhile), -EINVAL and *error. */
static int try_lock(const char *path, const char *file, int *ret_fd, struct host_error *error)
{
	_cleanup_close_ int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
				      0600);
	struct stat held, named;

	if (fd < 0)
		return host_error_set(
			error, errno == ENOENT ? HOST_EXIT_NOT_CONFIGURED : HOST_EXIT_FAILURE,
			"%s: cannot lock: %s%s", file, strerror(errno),
			errno == ENOENT ? " (the directory of the socket must exist)" : "");
	if (fstat(fd, &held) < 0 || !S_ISREG(held.st_mode))
		return host_error_set(error, HOST_EXIT_FAILURE, "%s: is not a lock file", file);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return host_error_set(
				error, HOST_EXIT_FAILURE,
				"%s: another kvpaged serves this socket (it holds %s)", path, file);
		return host_error_set(error, HOST_EXIT_FAILURE, "%s: cannot lock: %s", file,
				      strerror(errno));
	}
	if (lstat(file, &named) < 0 || named.st_ino != held.st_ino || named.st_dev != held.st_dev)
		return 0;
	*ret_fd = take_fd(&fd);
	return 1;
}

static int take_lock(const char *path, int *ret_fd, struct host_error *error)
{
	char file[PATH_MAX];

	lock_path(path, file);
	for (int i = 0; i < LOCK_ATTEMPTS_MAX; i++) {
		int r = try_lock(path, file, ret_fd, error);

		if (r != 0)
			return r < 0 ? r : 0;
	}
	return host_error_set(error, HOST_EXIT_FAILURE,
			      "%s: the lock file is replaced again and again", file);
}

/*
 * Whether a process listens on the socket at the address. Results: 0 (none), or -EINVAL and *error.
 */
static int check_dead(const struct sockaddr_un *address, struct host_error *error)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "socket: %s", strerror(errno));
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		return host_error_set(error, HOST_EXIT_FAILURE,
				      "%s: another process serves this socket", address->sun_path);
	if (errno == ECONNREFUSED)
		return 0;
	return host_error_set(error, HOST_EXIT_FAILURE,
			      "%s: a socket that is not ours is there: %s", address->sun_path,
			      strerror(errno));
}

/* Clears the name of the socket that a daemon which did not stop in order left. */
static int clear_name(const struct socket_options *options, const struct sockaddr_un *address,
		      struct host_error *error)
{
	const char *path = options->path;
	struct stat there;
	int r;

	if (lstat(path, &there) < 0) {
		if (errno == ENOENT)
			return 0;
		return host_error_set(error, HOST_EXIT_FAILURE, "%s: %s", path, strerror(errno));
	}
	if (S_ISLNK(there.st_mode))
		return host_error_set(error, HOST_EXIT_FAILURE,
				      "%s: is a symbolic link; it is left alone", path);
	if (!S_ISSOCK(there.st_mode))
		return host_error_set(error, HOST_EXIT_FAILURE,
				      "%s: exists and is not a socket; it is left alone", path);
	r = check_dead(address, error);
	if (r < 0)
		return r;
	if (there.st_uid != geteuid() && there.st_uid != options->owner)
		return host_error_set(error, HOST_EXIT_FAILURE,
				      "%s: a socket of user %u; it is left alone", path,
				      there.st_uid);
	if (unlink(path) < 0)
		return host_error_set(error, HOST_EXIT_FAILURE,
				      "%s: cannot remove the old socket: %s", path,
				      strerror(errno));
	return 0;
}

/*
 * Sets owner and mode through a handle on the name, so that what is changed is a socket and no
 * link's target.
 */
static int set_access(const struct socket_options *options, struct listen_socket *listening)
{
	_cleanup_close_ int name = open(options->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char link[32];
	struct stat there;

	if (name < 0 || fstat(name, &there) < 0)
		return -errno;
	if (!S_ISSOCK(there.st_mode))
		return -ENOTSOCK;
	listening->device = there.st_dev;
	listening->inode = there.st_ino;
	listening->path = options->path;
	/* Where nothing is to change, chown may be forbidden altogether (SystemCallFilter= of a unit). */
	if ((options->owner != (uid_t)-1 || options->group != (gid_t)-1) &&
	    fchownat(name, "", options->owner, options->group, AT_EMPTY_PATH) < 0)
		return -errno;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", name);
	return chmod(link, options->mode) < 0 ? -errno : 0;
}

static int bind_private(int fd, const struct sockaddr_un *address)
{
	mode_t before = umask(0177);
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	(void)umask(before);
	return r;
}

static int socket_number(int fd, int option)
{
	int value = 0;
	socklen_t n = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &n) < 0 ? -errno : value;
}

/* What is wrong with a socket that clients are to connect to. NULL: nothing. */
static const char *passed_fault(int fd)
{
	int domain = socket_number(fd, SO_DOMAIN);

	if (domain < 0)
		return "it is not a socket";
	if (domain != AF_UNIX)
		return "it is not a Unix socket";
	if (socket_number(fd, SO_TYPE) != SOCK_STREAM)
		return "it is not a socket of streams (ListenStream=)";
	if (socket_number(fd, SO_ACCEPTCONN) != 1)
		return "it does not listen (Accept=yes is not supported)";
	return NULL;
}

/* What the socket is bound to, ended. Nothing in it when that is nothing. */
static struct sockaddr_un bound_to(int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t n = sizeof(address) - 1; /* what the kernel may fill has no end of its own */

	if (getsockname(fd, (struct sockaddr *)&address, &n) < 0 || address.sun_family != AF_UNIX)
		address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return address;
}

static void name_passed(int fd, char name[SOCKET_NAME_BYTES])
{
	struct sockaddr_un address = bound_to(fd);

	if (address.sun_path[0] == '\0')
		(void)snprintf(name, SOCKET_NAME_BYTES, "@%s (passed)", address.sun_path + 1);
	else
		(void)snprintf(name, SOCKET_NAME_BYTES, "%s (passed)", address.sun_path);
}

void listen_socket_path(int fd, char path[SOCKET_NAME_BYTES])
{
	struct sockaddr_un address = bound_to(fd);

	(void)snprintf(path, SOCKET_NAME_BYTES, "%s", address.sun_path);
}

static int take_passed(int passed_fd, struct listen_socket *ret_socket, struct host_error *error)
{
	_cleanup_close_ int fd = passed_fd;
	struct listen_socket listening = LISTEN_SOCKET_NULL;
	const char *fault = passed_fault(fd);
	int flags = fcntl(fd, F_GETFL);

	if (fault)
		return host_error_set(error, HOST_EXIT_CONFIG, "the socket that was passed cannot be used: %s", fault);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "the socket that was passed: %s", strerror(errno));
	name_passed(fd, listening.name);
	listening.fd = take_fd(&fd);
	*ret_socket = listening;
	return 0;
}

static int open_own(const struct socket_options *options, struct listen_socket *ret_socket,
		    struct host_error *error)
{
	_cleanup_(listen_socket_closep) struct listen_socket listening = LISTEN_SOCKET_NULL;
	struct sockaddr_un address;
	int r;

	r = address_of(options->path, &address, error);
	if (r < 0)
		return r;
	r = take_lock(options->path, &listening.lock_fd, error);
	if (r < 0)
		return r;
	r = clear_name(options, &address, error);
	if (r < 0)
		return r;
	listening.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listening.fd < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "socket: %s", strerror(errno));
	r = bind_private(listening.fd, &address);
	if (r < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "%s: cannot bind: %s",
				      options->path, strerror(-r));
	r = set_access(options, &listening);
	if (r < 0)
		return host_error_set(error, HOST_EXIT_FAILURE,
				      "%s: cannot set owner, group and mode: %s", options->path,
				      strerror(-r));
	if (listen(listening.fd, options->backlog) < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "%s: cannot listen: %s",
				      options->path, strerror(errno));
	(void)snprintf(listening.name, sizeof(listening.name), "%s", options->path);
	*ret_socket = listening;
	listening = (struct listen_socket)LISTEN_SOCKET_NULL;
	return 0;
}

int listen_socket_open(const struct socket_options *options, struct listen_socket *ret_socket,
		       struct host_error *error)
{
	if (options->passed_fd >= 0)
		return take_passed(options->passed_fd, ret_socket, error);
	return open_own(options, ret_socket, error);
}

void listen_socket_close(struct listen_socket *listening)
{
	struct stat there;
	char file[PATH_MAX];

	if (listening->path && lstat(listening->path, &there) == 0 &&
	    there.st_dev == listening->device && there.st_ino == listening->inode)
		(void)unlink(listening->path);
	listening->fd = close_fd(listening->fd);
	if (listening->path && listening->lock_fd >= 0) {
		lock_path(listening->path, file);
		(void)unlink(file);
	}
	listening->lock_fd = close_fd(listening->lock_fd);
	listening->path = NULL;
}
