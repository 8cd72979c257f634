/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of io_uring. Transfers wait in one list; the loop's turn ends with handing as many to the kernel as may be
 * under way, with one system call. An eventfd tells of ends. What would make the loop wait (making, removing and
 * syncing files) is done by a crew of two.
 *
 * The ring has as many entries as transfers may be under way, so neither of its queues can overflow. With
 * IORING_SETUP_DEFER_TASKRUN the kernel finishes transfers when it is asked to, all that have come at once, instead of
 * interrupting the loop for each.
 *
 * Memory is registered in pieces of at most 1 GiB, which is the kernel's limit; a transfer across the border of two
 * pieces is done without, and so is everything where the system does not let us lock memory.
 */
#include "daemon/host/disk-engine.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "daemon/host/disk-crew.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define PIECE_BYTES GIB
#define PIECES_MAX 16384 /* the kernel's limit */
#define KNOWN_MAX (DISK_BUFFERS_MAX + 1)
#define CREW_THREADS 2
#define HANDLES 3

/* Registered memory; its pieces are the kernel's buffers first, first + 1, ... */
struct known {
	uint8_t *memory;
	size_t bytes;
	unsigned first;
};

struct disk_uring {
	struct disk_engine engine;
	struct io_uring ring;
	bool deferred; /* with IORING_SETUP_DEFER_TASKRUN */
	bool registers_buffers;
	unsigned pieces_max;
	uint8_t *registered; /* by file; NULL: none can be */
	unsigned depth;
	unsigned under_way;
	struct list waiting;
	struct known known[KNOWN_MAX];
	unsigned n_known;
	unsigned n_pieces;
	struct disk_crew *crew;
	int event_fd;
	uv_poll_t poll;
	uv_prepare_t prepare;
	uv_idle_t idle; /* active: the loop must not sleep, as there is something to hand over or to finish */
	unsigned handles; /* that have not ended, the crew's included */
};

static struct disk_uring *uring_of(const struct disk *disk)
{
	return list_entry(disk_engine_of(disk), struct disk_uring, engine);
}

static struct disk_uring *uring_of_engine(struct disk_engine *engine)
{
	return list_entry(engine, struct disk_uring, engine);
}

/* --- Handing over --------------------------------------------------------------------------------- */

/* The kernel's buffer that all of the memory lies in; -1: none. */
static int buffer_of(const struct disk_uring *uring, const uint8_t *memory, size_t bytes)
{
	for (unsigned i = 0; i < uring->n_known; i++) {
		const struct known *known = &uring->known[i];
		size_t offset = (size_t)(memory - known->memory);

		if (memory < known->memory || offset >= known->bytes || bytes > known->bytes - offset)
			continue;
		if (offset / PIECE_BYTES != (offset + bytes - 1) / PIECE_BYTES)
			return -1;
		return (int)(known->first + offset / PIECE_BYTES);
	}
	return -1;
}

static void prepare_entry(struct disk_uring *uring, struct io_uring_sqe *sqe, struct disk_io *io)
{
	uint8_t *memory = (uint8_t *)io->memory + io->moved;
	uint32_t bytes = io->bytes - io->moved;
	uint64_t offset = io->offset + io->moved;
	int buffer = buffer_of(uring, memory, bytes);
	bool registered = uring->registered && uring->registered[io->file];
	int fd = registered ? (int)io->file : uring->engine.files.fds[io->file];

	if (io->verb == DISK_READ && buffer >= 0)
		io_uring_prep_read_fixed(sqe, fd, memory, bytes, offset, buffer);
	else if (io->verb == DISK_READ)
		io_uring_prep_read(sqe, fd, memory, bytes, offset);
	else if (buffer >= 0)
		io_uring_prep_write_fixed(sqe, fd, memory, bytes, offset, buffer);
	else
		io_uring_prep_write(sqe, fd, memory, bytes, offset);
	if (registered)
		sqe->flags |= IOSQE_FIXED_FILE;
	/* The page cache is copied from and to at once, which would be the loop's time. */
	if (!uring->engine.files.direct)
		sqe->flags |= IOSQE_ASYNC;
	io_uring_sqe_set_data(sqe, io);
}

/* Only a kernel that is short of memory, or interrupted, refuses for a while; what was not taken stays in the queue. */
static void enter(struct disk_uring *uring, unsigned wait)
{
	int r = wait > 0 ? io_uring_submit_and_wait(&uring->ring, wait) : io_uring_submit(&uring->ring);

	kvp_assert(r >= 0 || r == -EAGAIN || r == -EBUSY || r == -EINTR || r == -ENOMEM);
}

static void hand_over(struct disk_uring *uring)
{
	struct list *node;

	while (uring->under_way < uring->depth && (node = list_first(&uring->waiting))) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

		kvp_assert(sqe);
		list_unlink(node);
		prepare_entry(uring, sqe, list_entry(node, struct disk_io, link));
		uring->under_way++;
	}
	if (io_uring_sq_ready(&uring->ring) > 0)
		enter(uring, 0);
}

/* --- Ends ----------------------------------------------------------------------------------------- */

/* The rest of a transfer goes before all others. */
static void end_transfer(struct disk_uring *uring, struct disk_io *io, int n)
{
	int result;

	uring->under_way--;
	io->ended_ns = uv_hrtime();
	if (disk_files_moved(io, n, &result))
		io->done(io, result);
	else if (uring->engine.closing)
		list_push_back(&uring->engine.cancelled, &io->link);
	else
		list_push_back(uring->waiting.next, &io->link);
}

/* Whether there was one. */
static bool end_one(struct disk_uring *uring)
{
	struct io_uring_cqe *cqe;
	struct disk_io *io;
	int n;

	if (io_uring_peek_cqe(&uring->ring, &cqe) != 0)
		return false;
	io = io_uring_cqe_get_data(cqe);
	n = cqe->res;
	io_uring_cqe_seen(&uring->ring, cqe);
	end_transfer(uring, io, n);
	return true;
}

static void on_idle(uv_idle_t *idle);

static void stay_awake(struct disk_uring *uring)
{
	(void)uv_idle_start(&uring->idle, on_idle);
}

static void end_portion(struct disk_uring *uring)
{
	struct disk_portion portion;

	disk_portion_begin(&portion);
	if (uring->deferred)
		(void)io_uring_get_events(&uring->ring); /* if not now, then when the next one wakes us */
	while (end_one(uring))
		if (disk_portion_over(&portion))
			break;
}

static void on_event(uv_poll_t *poll, int status, int events)
{
	struct disk_uring *uring = poll->data;
	eventfd_t ignored;

	(void)eventfd_read(uring->event_fd, &ignored);
	end_portion(uring);
}

/* The rest of what one portion was too small for. */
static void on_idle(uv_idle_t *idle)
{
	struct disk_uring *uring = idle->data;

	if (io_uring_cq_ready(&uring->ring) > 0)
		end_portion(uring);
}

/* Who submits after this, in the same turn, finds the loop awake and is served at the end of the next one. */
static void on_prepare(uv_prepare_t *prepare)
{
	struct disk_uring *uring = prepare->data;
	bool more;

	hand_over(uring);
	more = io_uring_cq_ready(&uring->ring) > 0 || io_uring_sq_ready(&uring->ring) > 0;
	if (more)
		stay_awake(uring);
	else
		(void)uv_idle_stop(&uring->idle);
}

/* --- For the tier --------------------------------------------------------------------------------- */

/* A file that cannot be registered is used by its descriptor. */
static void register_file(struct disk_uring *uring, uint32_t file, int fd)
{
	if (!uring->registered || (fd < 0 && !uring->registered[file]))
		return;
	uring->registered[file] =
		io_uring_register_files_update(&uring->ring, file, &fd, 1) == 1 && fd >= 0;
}

static void submit(struct disk *disk, struct disk_io *io)
{
	struct disk_uring *uring = uring_of(disk);

	if (disk_engine_refuses(&uring->engine, io))
		return;
	if (io->verb != DISK_READ && io->verb != DISK_WRITE) {
		if (io->verb == DISK_REMOVE)
			register_file(uring, io->file, -1);
		disk_crew_submit(uring->crew, io);
		return;
	}
	io->moved = 0;
	io->result = 0;
	list_push_back(&uring->waiting, &io->link);
	stay_awake(uring);
}

static void on_crew_ended(void *context, struct disk_io *io, int result)
{
	struct disk_uring *uring = context;

	if (io->verb == DISK_CREATE && result == 0)
		register_file(uring, io->file, uring->engine.files.fds[io->file]);
	io->done(io, result);
}

static unsigned depth(const struct disk *disk)
{
	return uring_of(disk)->depth;
}

static const struct disk_ops disk_ops = {
	.engine = "io_uring",
	.submit = submit,
	.files = disk_engine_files,
	.depth = depth,
	.buffers = disk_engine_buffers,
};

/* --- Memory --------------------------------------------------------------------------------------- */

static int register_pieces(struct disk_uring *uring, uint8_t *memory, size_t bytes)
{
	unsigned n = uring->n_pieces;

	for (size_t offset = 0; offset < bytes; offset += PIECE_BYTES, n++) {
		size_t left = bytes - offset;
		struct iovec piece = { memory + offset, left < PIECE_BYTES ? left : PIECE_BYTES };
		__u64 tag = 0;
		int r = io_uring_register_buffers_update_tag(&uring->ring, n, &piece, &tag, 1);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Pieces that were registered before one failed stay so until others take their numbers, or the ring ends. */
static void know(struct disk_engine *engine, void *memory, size_t bytes)
{
	struct disk_uring *uring = uring_of_engine(engine);
	unsigned pieces = (unsigned)((bytes + PIECE_BYTES - 1) / PIECE_BYTES);
	int r;

	if (!uring->registers_buffers || pieces > uring->pieces_max - uring->n_pieces || uring->n_known == KNOWN_MAX)
		return;
	r = register_pieces(uring, memory, bytes);
	if (r < 0) {
		log_line(engine->log, LOG_LEVEL_INFO,
			 "%zu MiB of memory cannot be registered with io_uring (%s), which makes transfers a little "
			 "slower; LimitMEMLOCK= or ulimit -l allows it",
			 bytes / MIB, strerror(-r));
		return;
	}
	uring->known[uring->n_known++] = (struct known){ memory, bytes, uring->n_pieces };
	uring->n_pieces += pieces;
}

/* Transfers that are prepared name the buffer by its number: the kernel takes them first. */
static void unknow(struct disk_engine *engine, const void *memory)
{
	struct disk_uring *uring = uring_of_engine(engine);
	struct known *known = uring->known;
	struct iovec nothing = { NULL, 0 };
	__u64 tag = 0;

	while (known < uring->known + uring->n_known && known->memory != memory)
		known++;
	if (known == uring->known + uring->n_known)
		return;
	enter(uring, 0);
	for (size_t offset = 0; offset < known->bytes; offset += PIECE_BYTES)
		(void)io_uring_register_buffers_update_tag(
			&uring->ring, known->first + (unsigned)(offset / PIECE_BYTES), &nothing, &tag, 1);
	*known = uring->known[--uring->n_known];
	log_line(engine->log, LOG_LEVEL_INFO,
		 "the arena is not registered with io_uring any more, as its size changes");
}

/* --- The end -------------------------------------------------------------------------------------- */

static void end_handle(struct disk_uring *uring)
{
	if (--uring->handles > 0)
		return;
	(void)close_fd(uring->event_fd);
	disk_engine_free(&uring->engine);
}

static void on_closed(uv_handle_t *handle)
{
	end_handle(handle->data);
}

static void on_crew_gone(void *context)
{
	end_handle(context);
}

static void close_handles(struct disk_uring *uring)
{
	uv_close((uv_handle_t *)&uring->poll, on_closed);
	uv_close((uv_handle_t *)&uring->prepare, on_closed);
	uv_close((uv_handle_t *)&uring->idle, on_closed);
}

/* Unregistered by hand, memory is unlocked when this returns; the ring's own end comes some time later. */
static void end_ring(struct disk_uring *uring)
{
	if (uring->registers_buffers)
		(void)io_uring_unregister_buffers(&uring->ring);
	io_uring_queue_exit(&uring->ring);
	free(uring->registered);
}

static void finish(struct disk_engine *engine)
{
	struct disk_uring *uring = uring_of_engine(engine);
	struct list *node;

	while ((node = list_first(&uring->waiting))) {
		list_unlink(node);
		list_push_back(&engine->cancelled, node);
	}
	while (uring->under_way > 0) {
		enter(uring, 1);
		while (end_one(uring))
			;
	}
	disk_crew_stop(uring->crew, &engine->cancelled, on_crew_gone);
	end_ring(uring);
}

static void release(struct disk_engine *engine)
{
	close_handles(uring_of_engine(engine));
}

static const struct disk_engine_ops engine_ops = {
	.know = know,
	.unknow = unknow,
	.finish = finish,
	.release = release,
};

/* --- The beginning -------------------------------------------------------------------------------- */

/* Kernels before 6.1 do not know the flags. */
static int start_ring(struct disk_uring *uring, unsigned entries)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
	};
	int r = io_uring_queue_init_params(entries, &uring->ring, &params);

	uring->deferred = r == 0;
	if (r != -EINVAL)
		return r;
	params = (struct io_uring_params){ 0 };
	return io_uring_queue_init_params(entries, &uring->ring, &params);
}

/* Where it is refused, the engine does without. */
static void start_registering(struct disk_uring *uring, uint64_t memory_bytes, uint32_t files_max)
{
	uint64_t pieces = memory_bytes / PIECE_BYTES + 2 * KNOWN_MAX;

	uring->pieces_max = pieces < PIECES_MAX ? (unsigned)pieces : PIECES_MAX;
	uring->registers_buffers = io_uring_register_buffers_sparse(&uring->ring, uring->pieces_max) == 0;
	uring->registered = calloc(files_max, 1);
	if (uring->registered && io_uring_register_files_sparse(&uring->ring, files_max) == 0)
		return;
	free(uring->registered);
	uring->registered = NULL;
}

static int start_events(struct disk_uring *uring)
{
	uring->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (uring->event_fd < 0)
		return -errno;
	return io_uring_register_eventfd(&uring->ring, uring->event_fd);
}

/* The first handle is the one that can fail. */
static int start_handles(struct disk_uring *uring, uv_loop_t *loop)
{
	int r = uv_poll_init(loop, &uring->poll, uring->event_fd);

	if (r < 0)
		return r;
	(void)uv_prepare_init(loop, &uring->prepare);
	(void)uv_idle_init(loop, &uring->idle);
	uring->poll.data = uring;
	uring->prepare.data = uring;
	uring->idle.data = uring;
	uring->handles = HANDLES;
	(void)uv_poll_start(&uring->poll, UV_READABLE, on_event);
	(void)uv_prepare_start(&uring->prepare, on_prepare);
	return 0;
}

/* After the ring: what has handles is freed by the loop. */
static int start_rest(struct disk_uring *uring, const struct disk_options *options, const char **ret_step)
{
	int r;

	*ret_step = "eventfd";
	r = start_events(uring);
	if (r == 0)
		r = start_handles(uring, options->loop);
	if (r == 0) {
		*ret_step = "starting threads";
		r = disk_crew_start(options->loop, &uring->engine.files, CREW_THREADS, on_crew_ended, uring,
				    &uring->crew);
	}
	if (r == 0) {
		uring->handles++;
		return 0;
	}
	end_ring(uring);
	if (uring->handles > 0) {
		close_handles(uring);
		return r;
	}
	(void)close_fd(uring->event_fd);
	free(uring);
	return r;
}

int disk_uring_new(const struct disk_options *options, struct disk_files *files, struct disk_engine **ret_engine,
		   const char **ret_step)
{
	struct disk_uring *uring = calloc(1, sizeof(*uring));
	int r;

	*ret_step = "io_uring_setup";
	r = uring ? start_ring(uring, options->depth) : -ENOMEM;
	if (r < 0) {
		free(uring);
		return r;
	}
	uring->depth = options->depth;
	list_init(&uring->waiting);
	start_registering(uring, options->memory_bytes, options->files_max);
	r = start_rest(uring, options, ret_step);
	if (r < 0)
		return r;
	disk_engine_init(&uring->engine, options, files, &disk_ops, &engine_ops);
	*ret_engine = &uring->engine;
	return 0;
}
