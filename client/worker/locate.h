/* SPDX-License-Identifier: Apache-2.0 */
/* From what --model says to an open model file. */
#pragma once

#include "client/worker/gguf.h"

/*
 * Opens "tiny", the file linked into the program; "smollm2", SmolLM2-135M-Instruct.Q4_1.gguf in
 * $KVPAGED_MODELS, $XDG_CACHE_HOME/kvpaged or ~/.cache/kvpaged, the first that has it; or any other
 * text as a path. Results: as gguf_open(); -ENOENT says in the fault how to get the file.
 */
int locate_model(const char *model, struct gguf **ret_gguf, struct fault *fault);
