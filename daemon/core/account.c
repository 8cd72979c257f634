/* SPDX-License-Identifier: Apache-2.0 */
/* Users are few (uids with open sessions): a list is looked through. */
#include "daemon/core/account.h"

#include "base/checked.h"
#include "base/contract.h"

#include <stdlib.h>

struct user *user_ref(struct list *users, uint32_t uid)
{
	struct user *user;

	list_for_each(node, users) {
		user = list_entry(node, struct user, link);
		if (user->uid == uid) {
			user->sessions++;
			return user;
		}
	}
	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	user->uid = uid;
	user->sessions = 1;
	list_push_back(users, &user->link);
	return user;
}

struct user *user_unref(struct user *user)
{
	kvp_assert(user->sessions > 0);
	user->sessions--;
	if (user->sessions == 0) {
		kvp_assert(user->staging_bytes == 0 && user->pinned_bytes == 0);
		list_unlink(&user->link);
		free(user);
	}
	return NULL;
}

bool account_charge(uint64_t *held, uint64_t amount, uint64_t max)
{
	uint64_t sum;

	if (!checked_add_u64(*held, amount, &sum) || sum > max)
		return false;
	*held = sum;
	return true;
}

void account_discharge(uint64_t *held, uint64_t amount)
{
	kvp_assert(amount <= *held);
	*held -= amount;
}
