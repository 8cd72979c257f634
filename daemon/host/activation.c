/* SPDX-License-Identifier: Apache-2.0 */
/* Names come from units, which root writes; a wrong one is a mistake, and the line in the log helps to find it. */
#include "daemon/host/activation.h"

#include "base/cleanup.h"
#include "daemon/host/systemd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int activation_receive(struct activation *ret_activation, struct host_error *error)
{
	struct activation activation = { .n = 0 };

	activation.n = systemd_take_fds(&activation.names);
	if (activation.n < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "cannot take the sockets that were passed: %s",
				      strerror(-activation.n));
	activation.descriptors = calloc((size_t)activation.n + 1, sizeof(*activation.descriptors));
	for (int i = 0; activation.descriptors && i < activation.n; i++)
		activation.descriptors[i] = SYSTEMD_FDS_BEGIN + i;
	if (!activation.descriptors) {
		activation_deinit(&activation);
		return host_error_set(error, HOST_EXIT_FAILURE, "out of memory");
	}
	*ret_activation = activation;
	return 0;
}

int activation_take(struct activation *activation, const char *name)
{
	for (int i = 0; i < activation->n; i++)
		if (activation->descriptors[i] >= 0 && strcmp(activation->names[i], name) == 0)
			return take_fd(&activation->descriptors[i]);
	return -1;
}

void activation_close_rest(struct activation *activation, struct log *log)
{
	for (int i = 0; i < activation->n; i++) {
		if (activation->descriptors[i] < 0)
			continue;
		log_message(log, MESSAGE_DESCRIPTOR_UNUSED,
			    "passed descriptor %d has the name '%s', which nothing here takes (see "
			    "FileDescriptorName= of the socket unit): closed",
			    activation->descriptors[i], activation->names[i]);
		activation->descriptors[i] = close_fd(activation->descriptors[i]);
	}
}

void activation_deinit(struct activation *activation)
{
	for (int i = 0; i < activation->n; i++) {
		if (activation->descriptors)
			(void)close_fd(activation->descriptors[i]);
		free(activation->names[i]);
	}
	free(activation->names);
	free(activation->descriptors);
	*activation = (struct activation){ .n = 0 };
}
