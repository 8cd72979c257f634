/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, opening again and dropping spaces; see space.h. The schema's own checks are in schema.c. */
#include "client/space.h"

#include "base/cleanup.h"
#include "client/client.h"
#include "client/schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int open_exchange(struct kvc_client *client, const char *name, const struct kvc_schema *schema,
			 Kvpaged__V1__Reply **ret_reply)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Schema message;

	open.name.data = (uint8_t *)name;
	open.name.len = strlen(name);
	if (schema) {
		schema_pack(schema, &message);
		open.schema = &message;
	}
	request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
	request.open_space = &open;
	return client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_OPEN_SPACE, ret_reply);
}

/* Takes the reply into a space that has its name. Returns NULL, or what is wrong with it. */
static const char *reply_take(const Kvpaged__V1__OpenSpaceReply *reply, struct kvc_space *space)
{
	const char *wrong;

	if (reply->space_id == 0 || !reply->schema)
		return "the daemon opened a space without number or schema";
	wrong = schema_unpack(reply->schema, &space->schema, space->model, space->revision);
	if (wrong)
		return wrong;
	schema_geometry(&space->schema, &space->geometry);
	wrong = page_schema_complete(&space->geometry);
	if (wrong)
		return wrong;
	space->id = reply->space_id;
	space->head_groups = page_head_groups(&space->geometry);
	space->page_count = page_count(&space->geometry);
	space->sizes = page_sizes(&space->geometry, space->geometry.block_tokens);
	if (space->geometry.page_heads != reply->schema->page_heads || space->head_groups != reply->head_groups ||
	    space->page_count != reply->page_count || space->sizes.page != reply->page_bytes)
		return "the daemon divides the space's blocks into other pages than this library";
	return NULL;
}

struct space_open {
	const char *name;
	const struct kvc_schema *schema; /* NULL: only if it is there */
	kvc_space *space;                /* out */
};

static int space_open_op(struct kvc_client *client, void *data)
{
	struct space_open *op = data;
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	_cleanup_free_ struct kvc_space *space = calloc(1, sizeof(*space));
	const char *wrong;
	int r;

	if (!space)
		return -ENOMEM;
	r = open_exchange(client, op->name, op->schema, &reply);
	if (r != 0)
		return r;
	space->client = client;
	memcpy(space->name, op->name, strlen(op->name));
	wrong = reply_take(reply->open_space, space);
	if (wrong)
		return client_break(client, wrong);
	list_push_back(&client->spaces, &space->link);
	op->space = take_ptr(space);
	return 0;
}

int kvc_space_open(kvc_client *client, const char *name, const struct kvc_schema *schema, kvc_space **ret_space)
{
	struct space_open op = { .name = name };
	struct kvc_schema complete;
	const char *wrong;
	int r;

	if (!client || !name || !ret_space)
		return client_refuse(client, -EINVAL, "kvc_space_open: an argument is NULL");
	wrong = schema_check_name(name);
	if (!wrong && schema) {
		complete = *schema;
		wrong = schema_check(&complete);
		op.schema = &complete;
	}
	if (wrong)
		return client_refuse(client, KVC_INVALID, wrong);
	r = client_run(client, space_open_op, &op);
	if (r == 0)
		*ret_space = op.space;
	return r;
}

kvc_space *kvc_space_close(kvc_space *space)
{
	struct kvc_client *client;

	if (!space)
		return NULL;
	client = space->client;
	if (client_lock(client) == 0) {
		list_unlink(&space->link);
		client_unlock(client);
	} else {
		list_unlink(&space->link); /* a forked child's copy of the list */
	}
	free(space);
	return NULL;
}

const struct kvc_schema *kvc_space_schema(const kvc_space *space)
{
	return space ? &space->schema : NULL;
}

static int space_reopen(struct kvc_client *client, struct kvc_space *space)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	_cleanup_free_ struct kvc_space *found = calloc(1, sizeof(*found));
	const char *wrong;
	int r;

	if (!found)
		return -ENOMEM;
	r = open_exchange(client, space->name, &space->schema, &reply);
	if (r < 0 || r == KVC_STOPPING)
		return r;
	if (r != 0) {
		space->broken = r;
		return 0;
	}
	wrong = reply_take(reply->open_space, found);
	if (!wrong && memcmp(&found->geometry, &space->geometry, sizeof(found->geometry)) != 0)
		wrong = "the daemon opened a space with another schema than it was asked for";
	if (wrong)
		return client_break(client, wrong);
	space->id = found->id;
	space->broken = KVC_OK;
	return 0;
}

int space_reopen_all(struct kvc_client *client)
{
	list_for_each(node, &client->spaces) {
		struct kvc_space *space = list_entry(node, struct kvc_space, link);
		int r;

		if (space->broken == KVC_NO_SPACE_NAMED)
			continue; /* dropped by this client */
		r = space_reopen(client, space);
		if (r != 0)
			return r;
	}
	return 0;
}

int space_check(struct kvc_space *space)
{
	struct words *words = &space->client->words;

	int r = space_broken(space);

	if (r == KVC_NO_SPACE_NAMED || r == KVC_BUSY)
		words_set(words, "the space %s was dropped", space->name);
	else if (r != KVC_OK)
		words_set(words, "the space %s could not be opened again after the daemon restarted: %s", space->name,
			  kvc_strerror(r));
	return r == KVC_BUSY ? KVC_NO_SPACE_NAMED : r;
}

void space_free_all(struct kvc_client *client)
{
	list_for_each_safe(node, after, &client->spaces) {
		list_unlink(node);
		free(list_entry(node, struct kvc_space, link));
	}
}

/* Handles of this name that are in one state come into another. */
static void handles_mark(struct kvc_client *client, const char *name, int from, int to)
{
	list_for_each(node, &client->spaces) {
		struct kvc_space *space = list_entry(node, struct kvc_space, link);

		if (strcmp(space->name, name) == 0 && space->broken == from)
			space->broken = to;
	}
}

static int space_drop_op(struct kvc_client *client, void *data)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__DropSpace drop = KVPAGED__V1__DROP_SPACE__INIT;
	const char *name = data;
	int r;

	drop.name.data = (uint8_t *)name;
	drop.name.len = strlen(name);
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DROP_SPACE;
	request.drop_space = &drop;
	/*
	 * Once it is dropped the daemon may give the number to another space, so no handle may use it from before on:
	 * readers in other threads look at it without the lock.
	 */
	handles_mark(client, name, KVC_OK, KVC_BUSY);
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB__NOT_SET, &reply);
	handles_mark(client, name, KVC_BUSY, r == 0 ? KVC_NO_SPACE_NAMED : KVC_OK);
	return r;
}

int kvc_space_drop(kvc_client *client, const char *name)
{
	const char *wrong;

	if (!client || !name)
		return client_refuse(client, -EINVAL, "kvc_space_drop: an argument is NULL");
	wrong = schema_check_name(name);
	if (wrong)
		return client_refuse(client, KVC_INVALID, wrong);
	return client_run(client, space_drop_op, (void *)name);
}
