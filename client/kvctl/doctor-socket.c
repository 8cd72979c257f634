/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the daemon: the socket's file, who may connect, whether somebody answers, and in which version. */
#include "client/kvctl/doctor.h"

#include "kvpaged-version.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME_BYTES 64
#define PATH_BYTES_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

#define START                                                                                                          \
	"start it (systemctl start kvpaged, or kvpaged --socket PATH), or name its socket with --socket or "           \
	"$KVPAGED_SOCKET"

static const char *user_name(uid_t uid, char *buffer)
{
	const struct passwd *user = getpwuid(uid);

	if (user)
		(void)snprintf(buffer, NAME_BYTES, "%s", user->pw_name);
	else
		(void)snprintf(buffer, NAME_BYTES, "%u", (unsigned)uid);
	return buffer;
}

static const char *group_name(gid_t gid, char *buffer)
{
	const struct group *group = getgrgid(gid);

	if (group)
		(void)snprintf(buffer, NAME_BYTES, "%s", group->gr_name);
	else
		(void)snprintf(buffer, NAME_BYTES, "%u", (unsigned)gid);
	return buffer;
}

static const char *type_name(mode_t mode)
{
	return S_ISREG(mode) ? "a regular file" : S_ISDIR(mode) ? "a directory" : "no socket";
}

/* Whom to ask for access to what has this mode and owner; bit is the group's. */
static void say_remedy(struct doctor *doctor, const struct stat *file, mode_t bit)
{
	char user[NAME_BYTES];
	char group[NAME_BYTES];

	(void)user_name(geteuid(), user);
	(void)group_name(file->st_gid, group);
	if ((file->st_mode & bit) && file->st_gid != 0)
		doctor_remedy(doctor, "add the user to the group that may: usermod -aG %s %s, then log in again", group,
			      user);
	else
		doctor_remedy(doctor,
			      "let a group in: socket.mode=0660 and socket.group=GROUP in kvpaged.conf, with %s "
			      "in that group",
			      user);
}

/* The directory on the way that this user may not search, whose path is then in directory. */
static bool find_closed(const char *path, char *directory, size_t size, struct stat *ret_stat)
{
	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		(void)snprintf(directory, size, "%.*s", (int)(slash - path), path);
		if (faccessat(AT_FDCWD, directory, X_OK, AT_EACCESS) == 0)
			continue;
		return errno == EACCES && stat(directory, ret_stat) == 0;
	}
	return false;
}

static void say_unseen(struct doctor *doctor, int error)
{
	char directory[PATH_BYTES_MAX + 1];
	char user[NAME_BYTES];
	struct stat closed;

	if (error == EACCES && find_closed(doctor->socket_path, directory, sizeof(directory), &closed)) {
		doctor_say(doctor, DOCTOR_FAIL, "%s may not enter %s, where the socket is", user_name(geteuid(), user),
			   directory);
		say_remedy(doctor, &closed, S_IXGRP);
		return;
	}
	doctor_say(doctor, DOCTOR_FAIL, "there is no %s: %s", doctor->socket_path, strerror(error));
	doctor_remedy(doctor, START);
}

static void say_access(struct doctor *doctor, const struct stat *file)
{
	char user[NAME_BYTES];

	(void)user_name(geteuid(), user);
	if (faccessat(AT_FDCWD, doctor->socket_path, W_OK, AT_EACCESS) == 0) {
		doctor_say(doctor, DOCTOR_OK, "%s may connect", user);
		return;
	}
	doctor_say(doctor, DOCTOR_FAIL, "%s may not connect", user);
	say_remedy(doctor, file, S_IWGRP);
}

void doctor_socket(struct doctor *doctor)
{
	char user[NAME_BYTES];
	char group[NAME_BYTES];
	struct stat file;

	if (strlen(doctor->socket_path) > PATH_BYTES_MAX) {
		doctor_say(doctor, DOCTOR_FAIL, "the socket's path has %zu bytes; a socket can have %zu",
			   strlen(doctor->socket_path), (size_t)PATH_BYTES_MAX);
		doctor_remedy(doctor, "choose a shorter path for socket.path");
		return;
	}
	if (stat(doctor->socket_path, &file) < 0) {
		say_unseen(doctor, errno);
		return;
	}
	if (!S_ISSOCK(file.st_mode)) {
		doctor_say(doctor, DOCTOR_FAIL, "%s is %s, not a socket", doctor->socket_path, type_name(file.st_mode));
		doctor_remedy(doctor, "name the daemon's socket with --socket or $KVPAGED_SOCKET");
		return;
	}
	doctor_say(doctor, DOCTOR_OK, "%s is a socket of %s, group %s, mode %04o", doctor->socket_path,
		   user_name(file.st_uid, user), group_name(file.st_gid, group), (unsigned)file.st_mode & 07777);
	say_access(doctor, &file);
}

static const char *remedy_of(int result)
{
	switch (result) {
	case -ECONNREFUSED:
		return "nobody listens there any more: " START;
	case -EACCES:
	case KVC_PERMISSION:
		return "see the socket's owner, group and mode, and access.allow_uids in kvpaged.conf";
	case -ETIMEDOUT:
		return "see its log (journalctl -u kvpaged), whether it is stopped, and whether the machine is "
		       "overloaded";
	case KVC_VERSION:
		return "install the same version of kvpaged and libkvclient";
	case -EPROTO:
	case KVC_PROTOCOL:
	case -ECONNRESET:
		return "see what listens there (ss -xlp): another program, or a kvpaged of another version; see its "
		       "log";
	case KVC_QUOTA:
	case KVC_TOO_MANY:
		return "end sessions that are not needed, or raise limits.sessions and limits.sessions_per_uid";
	case -EBADMSG:
		return "raise the limit of open files (ulimit -n), or see the log of the security module";
	default:
		return START;
	}
}

void doctor_daemon(struct doctor *doctor)
{
	if (doctor->opened == KVC_OK) {
		doctor_say(doctor, DOCTOR_OK, "the daemon answers, incarnation %" PRIx64 ", arena of %" PRIu64 " MiB",
			   doctor->info.incarnation, doctor->info.arena_bytes >> 20);
		return;
	}
	doctor_say(doctor, DOCTOR_FAIL, "no daemon answers: %s", doctor->why);
	doctor_remedy(doctor, "%s", remedy_of(doctor->opened));
}

void doctor_version(struct doctor *doctor)
{
	const char *library = kvc_version();

	if (strcmp(library, KVPAGED_VERSION) != 0) {
		doctor_say(doctor, DOCTOR_WARN, "kvctl is %s but runs with libkvclient %s", KVPAGED_VERSION, library);
		doctor_remedy(doctor, "see which library is found first: ldd $(command -v kvctl), $LD_LIBRARY_PATH, "
				      "ldconfig -p");
	}
	if (doctor->opened == KVC_OK && strcmp(library, doctor->info.server_version) != 0) {
		doctor_say(doctor, DOCTOR_WARN, "the daemon is %s, libkvclient %s; they understand each other",
			   doctor->info.server_version, library);
		doctor_remedy(doctor, "restart what was not restarted after the last update");
	} else if (doctor->opened == KVC_OK) {
		doctor_say(doctor, DOCTOR_OK, "kvctl and the daemon are %s, libkvclient %s", KVPAGED_VERSION, library);
	} else {
		doctor_say(doctor, DOCTOR_INFO, "kvctl is %s, libkvclient %s", KVPAGED_VERSION, library);
	}
}
