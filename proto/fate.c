/* SPDX-License-Identifier: Apache-2.0 */
/* Words for what becomes of blocks. */
#include "proto/fate.h"

static const struct {
	const char *word;
	const char *text;
} fates[] = {
#define X(name, number, word, text) [number] = { word, text },
	KVP_FATE_LIST(X)
#undef X
};

const char *fate_word(unsigned fate)
{
	return fate < KVP_FATES ? fates[fate].word : "?";
}

const char *fate_text(unsigned fate)
{
	return fate < KVP_FATES ? fates[fate].text : "?";
}
