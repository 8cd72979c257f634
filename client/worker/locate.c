/* SPDX-License-Identifier: Apache-2.0 */
/* Two names and a path. */
#include "client/worker/locate.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SMOLLM2_FILE "SmolLM2-135M-Instruct.Q4_1.gguf"

/* tiny.S */
extern const uint8_t worker_tiny_begin[];
extern const uint8_t worker_tiny_end[];

struct place {
	const char *variable;
	const char *below; /* the variable's directory */
};

static const struct place places[] = {
	{ "KVPAGED_MODELS", "" },
	{ "XDG_CACHE_HOME", "/kvpaged" },
	{ "HOME", "/.cache/kvpaged" },
};

static bool find_smollm2(char path[PATH_MAX])
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		const char *base = getenv(places[i].variable);
		int n;

		if (!base || !*base)
			continue;
		n = snprintf(path, PATH_MAX, "%s%s/%s", base, places[i].below, SMOLLM2_FILE);
		if (n > 0 && n < PATH_MAX && access(path, R_OK) == 0)
			return true;
	}
	return false;
}

int locate_model(const char *model, struct gguf **ret_gguf, struct fault *fault)
{
	char path[PATH_MAX];

	if (strcmp(model, "tiny") == 0)
		return gguf_open_memory(worker_tiny_begin, (size_t)(worker_tiny_end - worker_tiny_begin),
					ret_gguf, fault);
	if (strcmp(model, "smollm2") != 0)
		return gguf_open(model, ret_gguf, fault);
	if (!find_smollm2(path))
		return fault_set(fault, -ENOENT,
				 "no " SMOLLM2_FILE " in $KVPAGED_MODELS or ~/.cache/kvpaged; "
				 "client/worker/get-smollm2.sh downloads it");
	return gguf_open(path, ret_gguf, fault);
}
