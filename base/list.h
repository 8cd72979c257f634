/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive, circular, doubly linked list. A head or an unlinked node points at itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *prev;
};

#define LIST_INIT(head) { .next = &(head), .prev = &(head) }

#define list_entry(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))

/* The body may unlink the node that it is given. */
#define list_for_each_safe(node, after, head)                                                       \
	for (struct list *node = (head)->next, *after = node->next; node != (head);                 \
	     node = after, after = node->next)

#define list_for_each(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)

static inline void list_init(struct list *node)
{
	node->next = node;
	node->prev = node;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_push_back(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static inline void list_unlink(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* The first node, or NULL. */
static inline struct list *list_first(struct list *head)
{
	return list_empty(head) ? NULL : head->next;
}
