/* SPDX-License-Identifier: Apache-2.0 */
/* K and V of a real sequence, from a file that kvworker --dump-kv wrote (client/worker/dump.h). */
#pragma once

#include <stdint.h>

#define CAPTURE_NAME_BYTES 32

struct capture {
	char name[CAPTURE_NAME_BYTES]; /* of the model: a-z, 0-9, - and _ */
	uint32_t layers;
	uint32_t heads;
	uint32_t tokens;
	uint32_t head_dim; /* such as the codecs take */
	float *k;	   /* [layer][head][token][channel] */
	float *v;
};

/*
 * Reads the file, into memory that capture_done() frees. Any file may be given. Results: 0; 1 after
 * a line on stderr, and then nothing is to be freed.
 */
int capture_read(const char *path, struct capture *ret_capture);

void capture_done(struct capture *capture);
