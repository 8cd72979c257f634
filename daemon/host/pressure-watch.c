/* SPDX-License-Identifier: Apache-2.0 */
/* PSI files: a trigger is written, and poll() tells of it as of an exceptional condition. */
#include "daemon/host/pressure-watch.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "daemon/host/memory.h"
#include "daemon/host/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_FILE "/proc/pressure/memory"

static const char *const triggers[] = { "some 150000 1000000", "some 300000 2000000" };

/* ---- The arena ---- */

static struct pressure_sight sight(const struct server *server)
{
	struct pressure_sight sight = {
		.held_bytes = core_held_bytes(server->core),
		.touched_bytes = server->arena->bytes,
		.asked_bytes = core_asked_bytes(server->core),
	};
	struct stat stat;

	if (fstat(server->arena->fd, &stat) == 0)
		sight.touched_bytes = (uint64_t)stat.st_blocks * 512;
	return sight;
}

static void on_calm(uv_timer_t *timer);

static void act(struct pressure_watch *watch, enum pressure_event event, uint64_t now_ns)
{
	struct server *server = watch->server;
	struct pressure_sight now = sight(server);
	uint64_t before = watch->pressure.wanted;
	uint64_t wanted = pressure_next(&watch->pressure, event, &now, now_ns);
	uint64_t due_ns = pressure_due_ns(&watch->pressure);
	char text[16];

	if (wanted != before) {
		uint64_t may = wanted < now.asked_bytes ? wanted : now.asked_bytes;

		log_message(server->log, MESSAGE_PRESSURE, "%s: the arena may take %s",
			    event == PRESSURE_SIGN ? "the system is short of memory" : "memory is there again",
			    units_format_bytes(may, text, sizeof(text)));
		core_press(server->core, wanted, now_ns);
	}
	if (due_ns == UINT64_MAX)
		return;
	uv_update_time(&server->loop);
	(void)uv_timer_start(&watch->calm, on_calm, due_ns > now_ns ? (due_ns - now_ns) / NS_PER_MS + 1 : 0, 0);
}

static void on_calm(uv_timer_t *timer)
{
	struct pressure_watch *watch = timer->data;

	act(watch, PRESSURE_TIME, server_turn(watch->server));
}

/* ---- The kernel ---- */

static void on_sign(uv_poll_t *poll, int status, int events)
{
	struct pressure_watch *watch = poll->data;
	uint64_t now_ns = server_turn(watch->server);

	if (status < 0) {
		log_message(watch->server->log, MESSAGE_PRESSURE_UNWATCHED,
			    "memory pressure is not watched any more: %s", strerror(-status));
		(void)uv_poll_stop(&watch->poll);
		core_note_pressure(watch->server->core, false);
		return;
	}
	if (events & UV_PRIORITIZED)
		act(watch, PRESSURE_SIGN, now_ns);
}

void pressure_watch_fd(struct pressure_watch *watch, struct server *server, int fd)
{
	*watch = (struct pressure_watch){ .server = server, .fd = fd };
	pressure_init(&watch->pressure, server->arena->bytes, server->config->fields.arena_bytes_min);
	(void)uv_timer_init(&server->loop, &watch->calm);
	watch->calm.data = watch;
	if (uv_poll_init(&server->loop, &watch->poll, fd) < 0) {
		log_message(server->log, MESSAGE_PRESSURE_UNWATCHED,
			    "memory pressure is not watched: it cannot be polled");
		return;
	}
	watch->poll.data = watch;
	(void)uv_poll_start(&watch->poll, UV_PRIORITIZED, on_sign);
	core_note_pressure(server->core, true);
}

/* With the first trigger that the kernel takes. Results: the descriptor, or negative errno. */
static int watch_file(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(triggers) / sizeof(triggers[0]); i++)
		if (write(fd, triggers[i], strlen(triggers[i]) + 1) > 0)
			return take_fd(&fd);
	return -errno;
}

/* systemd 254 and later names the file of our cgroup, and lets us write to it. */
static const char *own_file(char path[PATH_MAX])
{
	const char *named = getenv("MEMORY_PRESSURE_WATCH");

	if (named && strcmp(named, "/dev/null") != 0)
		return named;
	return memory_cgroup_file("memory.pressure", path, PATH_MAX);
}

/* Why it would be of no use; NULL: it is. */
static const char *uselessness(const struct server *server)
{
	if (server->config->fields.arena_seal == CONFIG_SEAL_STRICT)
		return "an arena with arena.seal=strict cannot give memory back";
	if (server->arena->huge)
		return "huge pages go back to their pool, where no one else can use them";
	return NULL;
}

void pressure_watch_open(struct pressure_watch *watch, struct server *server)
{
	const char *useless = uselessness(server);
	char path[PATH_MAX];
	const char *own = own_file(path);
	int own_fd, fd;

	if (useless) {
		log_message(server->log, MESSAGE_PRESSURE_UNWATCHED, "memory pressure is not watched: %s", useless);
		return;
	}
	own_fd = own ? watch_file(own) : -ENOENT;
	fd = own_fd < 0 ? watch_file(SYSTEM_FILE) : own_fd;
	if (fd < 0) {
		log_message(server->log, MESSAGE_PRESSURE_UNWATCHED,
			    "memory pressure is not watched: %s: %s; %s: %s", own ? own : "no cgroup of version 2",
			    strerror(-own_fd), SYSTEM_FILE, strerror(-fd));
		return;
	}
	log_message(server->log, MESSAGE_PRESSURE, "memory pressure is watched: %s", own_fd < 0 ? SYSTEM_FILE : own);
	pressure_watch_fd(watch, server, fd);
}

void pressure_watch_close(struct pressure_watch *watch)
{
	if (!watch->server)
		return;
	if (uv_is_active((const uv_handle_t *)&watch->poll))
		(void)uv_poll_stop(&watch->poll);
	watch->fd = close_fd(watch->fd);
}
