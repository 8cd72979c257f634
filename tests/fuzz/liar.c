/* SPDX-License-Identifier: Apache-2.0 */
/* See liar.h. Messages are made by their descriptors, so that every field there is comes to lie some day. */
#include "tests/fuzz/liar.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "proto/control.h"
#include "proto/fdpass.h"
#include "proto/frame.h"
#include "proto/kvpaged.pb-c.h"
#include "proto/limits.h"
#include "tests/fuzz/arena-model.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CONNECTIONS_MAX 3u
#define REPEATED_MAX 6u
#define RECORDS 2u

typedef Kvpaged__V1__Reply Reply;
typedef Kvpaged__V1__Request Request;

/* ---- Messages of any content ---- */

static ProtobufCMessage *message_make(const ProtobufCMessageDescriptor *descriptor, struct take *take);

static ProtobufCBinaryData bytes_make(struct take *take)
{
	ProtobufCBinaryData data = { 0 };
	const uint8_t *bytes = take_bytes(take, take_below(take, 140), &data.len);

	data.data = malloc(data.len + 1);
	kvp_assert(data.data);
	if (data.len > 0)
		memcpy(data.data, bytes, data.len);
	return data;
}

static size_t value_bytes(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_UINT32:
		return sizeof(uint32_t);
	case PROTOBUF_C_TYPE_UINT64:
		return sizeof(uint64_t);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	default:
		kvp_assert(type == PROTOBUF_C_TYPE_MESSAGE);
		return sizeof(ProtobufCMessage *);
	}
}

static void value_make(const ProtobufCFieldDescriptor *field, void *value, struct take *take)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT32:
		*(uint32_t *)value = (uint32_t)take_number(take);
		break;
	case PROTOBUF_C_TYPE_UINT64:
		*(uint64_t *)value = take_number(take);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)value = take_below(take, 2);
		break;
	case PROTOBUF_C_TYPE_BYTES:
		*(ProtobufCBinaryData *)value = bytes_make(take);
		break;
	default:
		*(ProtobufCMessage **)value = message_make(field->descriptor, take);
		break;
	}
}

static void field_make(const ProtobufCFieldDescriptor *field, uint8_t *message, struct take *take)
{
	size_t bytes = value_bytes(field->type), n;
	uint8_t *values;

	if (field->label != PROTOBUF_C_LABEL_REPEATED) {
		value_make(field, message + field->offset, take);
		return;
	}
	n = take_below(take, REPEATED_MAX + 1);
	values = n > 0 ? calloc(n, bytes) : NULL;
	for (size_t i = 0; i < n; i++)
		value_make(field, values + i * bytes, take);
	*(size_t *)(message + field->quantifier_offset) = n;
	*(uint8_t **)(message + field->offset) = values;
}

/* For protobuf_c_message_free_unpacked(). */
static ProtobufCMessage *message_make(const ProtobufCMessageDescriptor *descriptor, struct take *take)
{
	ProtobufCMessage *message = calloc(1, descriptor->sizeof_message);

	kvp_assert(message);
	protobuf_c_message_init(descriptor, message);
	for (unsigned i = 0; i < descriptor->n_fields; i++)
		field_make(&descriptor->fields[i], (uint8_t *)message, take);
	return message;
}

/* ---- What an honest daemon would say ---- */

static void schema_tell(Kvpaged__V1__Schema **schema)
{
	if (!*schema) {
		*schema = calloc(1, sizeof(**schema));
		kvp_assert(*schema);
		kvpaged__v1__schema__init(*schema);
	}
	free((*schema)->model.data);
	(*schema)->model = (ProtobufCBinaryData){ .data = (uint8_t *)strdup("m"), .len = 1 };
	(*schema)->dtype = 1;
	(*schema)->layers = MODEL_LAYERS;
	(*schema)->kv_heads = (*schema)->page_heads = 1;
	(*schema)->head_dim_k = (*schema)->head_dim_v = MODEL_HEAD_DIM;
	(*schema)->block_tokens = MODEL_TOKENS;
	(*schema)->codec_k = (*schema)->codec_v = MODEL_CODEC;
}

static void space_tell(Kvpaged__V1__OpenSpaceReply *reply)
{
	schema_tell(&reply->schema);
	reply->space_id = 1;
	reply->head_groups = 1;
	reply->page_count = MODEL_LAYERS;
	reply->page_bytes = MODEL_PAGE_BYTES;
}

static void hello_tell(Kvpaged__V1__HelloReply *reply)
{
	static const uint32_t kinds[KVP_FDS_MAX] = { 1, 2, 3, 4 };

	reply->version = 1;
	reply->incarnation = MODEL_INCARNATION;
	reply->arena_bytes = KVP_ARENA_BYTES_MIN;
	reply->staging_bytes = LIAR_STAGING_BYTES;
	reply->request_bytes_max = KVP_FRAME_BYTES_MAX;
	reply->requests_in_flight_max = 8;
	reply->records = RECORDS;
	free(reply->fds);
	reply->fds = malloc(sizeof(kinds));
	kvp_assert(reply->fds);
	memcpy(reply->fds, kinds, sizeof(kinds));
	reply->n_fds = KVP_FDS_MAX;
}

static void fetch_tell(Kvpaged__V1__FetchReply *reply)
{
	for (size_t i = 0; i < reply->n_items; i++) {
		reply->items[i]->status = 0;
		reply->items[i]->block = 1 + (uint32_t)i;
		reply->items[i]->generation = 2;
		reply->items[i]->tokens = MODEL_TOKENS;
	}
}

/* Makes the answer honest where it matters for what comes next. */
static void reply_mend(Reply *reply)
{
	reply->status = 0;
	if (reply->verb_case == KVPAGED__V1__REPLY__VERB_HELLO)
		hello_tell(reply->hello);
	if (reply->verb_case == KVPAGED__V1__REPLY__VERB_OPEN_SPACE)
		space_tell(reply->open_space);
	if (reply->verb_case == KVPAGED__V1__REPLY__VERB_FETCH)
		fetch_tell(reply->fetch);
}

/* ---- Answers ---- */

/* The reply's verb for a request's. */
static Kvpaged__V1__Reply__VerbCase verb_of(const Request *request, struct take *take)
{
	static const uint8_t verbs[] = {
		[2] = 4, [3] = 5, [4] = 6, [5] = 7, [6] = 8, [7] = 9, [8] = 8, [9] = 8, [10] = 8,
		[11] = 8, [12] = 10, [13] = 11, [14] = 12, [15] = 8, [16] = 13, [17] = 14, [18] = 15,
		[20] = 16,
	};
	size_t verb = (size_t)request->verb_case;

	if (verb >= sizeof(verbs) || verbs[verb] == 0 || take_u8(take) >= 0xf4)
		return 4 + take_below(take, 13);
	return verbs[verb];
}

static Reply *reply_make(const Request *request, struct take *take)
{
	Reply *reply = malloc(sizeof(*reply));
	const ProtobufCFieldDescriptor *field;

	kvp_assert(reply);
	kvpaged__v1__reply__init(reply);
	reply->verb_case = verb_of(request, take);
	reply->id = take_u8(take) < 0xf8 ? request->id : take_number(take);
	field = protobuf_c_message_descriptor_get_field(&kvpaged__v1__reply__descriptor, reply->verb_case);
	kvp_assert(field);
	reply->hello = (void *)message_make(field->descriptor, take); /* a union of pointers */
	if (take_u8(take) < 0xa0)
		reply_mend(reply);
	else
		reply->status = (uint32_t)take_number(take);
	if (reply->status != 0)
		reply->error = bytes_make(take);
	return reply;
}

static int memory_new(uint64_t bytes, int seals)
{
	int fd = memfd_create("liar", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	kvp_assert(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0);
	return fd;
}

static int control_new(struct take *take)
{
	struct kvp_control_header header = {
		.magic = KVP_CONTROL_MAGIC,
		.version = KVP_CONTROL_VERSION,
		.records_count = RECORDS,
	};
	int fd = memory_new(kvp_control_bytes(RECORDS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	uint64_t value;

	if (take_u8(take) >= 0xf0) {
		value = take_number(take);
		memcpy((uint8_t *)&header + take_below(take, sizeof(header) - sizeof(value)), &value, sizeof(value));
	}
	kvp_assert(pwrite(fd, &header, sizeof(header), 0) == sizeof(header));
	return fd;
}

/* The four descriptors of a Hello; some are others than they should be. */
static void hello_send(int socket, const uint8_t *frame, size_t n, struct take *take)
{
	int fds[KVP_FDS_MAX], ends[2];
	uint8_t choice = take_u8(take);

	kvp_assert(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
	fds[0] = fcntl(model_fd(), F_DUPFD_CLOEXEC, 0);
	fds[1] = memory_new(LIAR_STAGING_BYTES, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	fds[2] = ends[0];
	fds[3] = control_new(take);
	if (choice >= 0xf0) {
		int swapped = fds[choice & 3];

		fds[choice & 3] = fds[choice >> 2 & 3];
		fds[choice >> 2 & 3] = swapped;
	}
	(void)fdpass_send(socket, frame, n, fds, choice < 0xf8 ? KVP_FDS_MAX : choice % (KVP_FDS_MAX + 1));
	for (unsigned i = 0; i < KVP_FDS_MAX; i++)
		(void)close(fds[i]);
	(void)close(ends[1]);
}

/* Whether the connection goes on. */
static bool reply_send(int socket, const Request *request, struct take *take)
{
	Reply *reply = reply_make(request, take);
	size_t n = kvpaged__v1__reply__get_packed_size(reply);
	_cleanup_free_ uint8_t *frame = malloc(FRAME_HEADER_BYTES + n);
	bool hello = request->verb_case == KVPAGED__V1__REQUEST__VERB_HELLO;

	kvp_assert(frame);
	frame_put_header(frame, (uint32_t)n);
	(void)kvpaged__v1__reply__pack(reply, frame + FRAME_HEADER_BYTES);
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	if (hello)
		hello_send(socket, frame, FRAME_HEADER_BYTES + n, take);
	else
		return send(socket, frame, FRAME_HEADER_BYTES + n, MSG_NOSIGNAL) > 0;
	return true;
}

/* Likewise. Any bytes end the connection, for a client may wait for what they promise. */
static bool answer(int socket, const Request *request, struct take *take)
{
	uint8_t choice = take_u8(take);
	const uint8_t *bytes;
	size_t n;

	if (take->left == 0)
		return false;
	if (choice < 0xf0)
		return reply_send(socket, request, take);
	bytes = take_bytes(take, take_u8(take), &n);
	(void)send(socket, bytes, n, MSG_NOSIGNAL);
	return false;
}

static void connection_serve(int socket, struct take *take)
{
	struct frame_reader reader;
	bool goes_on = true;

	frame_reader_init(&reader, KVP_FRAME_BYTES_MAX);
	while (goes_on) {
		size_t n;
		uint8_t *space = frame_reader_space(&reader, &n);
		ssize_t got = recv(socket, space, n, 0);
		const uint8_t *body;

		if (got <= 0)
			break;
		frame_reader_filled(&reader, (size_t)got);
		while (goes_on && frame_reader_next(&reader, &body, &n) > 0) {
			Request *request = kvpaged__v1__request__unpack(NULL, n, body);

			kvp_assert(request); /* the client is honest */
			goes_on = answer(socket, request, take);
			kvpaged__v1__request__free_unpacked(request, NULL);
		}
	}
	frame_reader_deinit(&reader);
}

static void *liar_run(void *data)
{
	struct liar *liar = data;

	for (unsigned i = 0; i < CONNECTIONS_MAX && liar->take.left > 0; i++) {
		int socket = accept4(liar->listener, NULL, NULL, SOCK_CLOEXEC);

		if (socket < 0)
			break;
		connection_serve(socket, &liar->take);
		(void)close(socket);
	}
	(void)shutdown(liar->listener, SHUT_RDWR);
	return NULL;
}

void liar_start(struct liar *liar, const uint8_t *bytes, size_t n)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*liar = (struct liar){ .take = { .bytes = bytes, .left = n } };
	(void)snprintf(liar->path, sizeof(liar->path), "/tmp/kvp-fuzz-%d.sock", (int)getpid());
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", liar->path);
	(void)unlink(liar->path);
	liar->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	kvp_assert(liar->listener >= 0);
	kvp_assert(bind(liar->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	kvp_assert(listen(liar->listener, 8) == 0);
	kvp_assert(pthread_create(&liar->thread, NULL, liar_run, liar) == 0);
}

void liar_stop(struct liar *liar)
{
	(void)shutdown(liar->listener, SHUT_RDWR); /* wakes a thread that waits for another connection */
	kvp_assert(pthread_join(liar->thread, NULL) == 0);
	(void)close(liar->listener);
	(void)unlink(liar->path);
}
