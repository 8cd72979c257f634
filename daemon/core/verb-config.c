/* SPDX-License-Identifier: Apache-2.0 */
/* Config: the settings in effect, as the host gave them. */
#include "daemon/core/verbs.h"

#include <stdlib.h>
#include <string.h>

enum verb_result verb_config(struct core_session *session, const Request *request, Reply *reply)
{
	struct core *core = session->core;
	Kvpaged__V1__ConfigReply answer = KVPAGED__V1__CONFIG_REPLY__INIT;
	Kvpaged__V1__ConfigItem *items = calloc(core->n_config + 1, sizeof(*items));
	Kvpaged__V1__ConfigItem **pointers = calloc(core->n_config + 1, sizeof(*pointers));

	if (!items || !pointers) {
		free(items);
		free(pointers);
		return reply_fail(reply, KVP_TOO_MANY, "out of memory");
	}
	for (size_t i = 0; i < core->n_config; i++) {
		const struct core_config_item *item = &core->config[i];

		kvpaged__v1__config_item__init(&items[i]);
		items[i].key = text_data(item->key, strlen(item->key));
		items[i].value = text_data(item->value, strlen(item->value));
		items[i].origin = text_data(item->origin, strlen(item->origin));
		pointers[i] = &items[i];
	}
	answer.n_items = core->n_config;
	answer.items = pointers;
	reply->verb_case = KVPAGED__V1__REPLY__VERB_CONFIG;
	reply->config = &answer;
	reply_send(session, reply, 0);
	free(items);
	free(pointers);
	return VERB_QUEUED;
}
