/* SPDX-License-Identifier: Apache-2.0 */
/* Logits are made for a few tokens at a time: a vocabulary is wide. */
#include "client/worker/perplexity.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define LOGIT_ROWS 16

struct scorer {
	struct session *session;
	uint32_t n_vocab;
	float *logits; /* LOGIT_ROWS x n_vocab */
	double sum;
	uint64_t n_scored;
};

/* -log of the likelihood that the logits give to one token. */
static double negative_log_likelihood(const float *logits, uint32_t n, uint32_t token)
{
	float most = logits[0];
	double sum = 0.0;

	for (uint32_t i = 1; i < n; i++)
		most = logits[i] > most ? logits[i] : most;
	for (uint32_t i = 0; i < n; i++)
		sum += (double)expf(logits[i] - most);
	return log(sum) + (double)most - (double)logits[token];
}

/* Scores targets[0..n), which follow the tokens [first, first + n) of the batch just fed. */
static void score_batch(struct scorer *scorer, uint32_t first, const uint32_t *targets, uint32_t n)
{
	for (uint32_t done = 0; done < n; done += LOGIT_ROWS) {
		uint32_t rows = n - done < LOGIT_ROWS ? n - done : LOGIT_ROWS;

		session_logits(scorer->session, first + done, rows, scorer->logits);
		for (uint32_t i = 0; i < rows; i++)
			scorer->sum += negative_log_likelihood(scorer->logits + (size_t)i * scorer->n_vocab,
							       scorer->n_vocab, targets[done + i]);
	}
	scorer->n_scored += n;
}

static int score_window(struct scorer *scorer, const uint32_t *tokens, uint32_t n)
{
	uint32_t block_tokens = session_store(scorer->session)->block_tokens;
	int batch;

	session_begin(scorer->session);
	/* The last token predicts nothing that is in the window. */
	for (uint32_t done = 0; done < n - 1; done += (uint32_t)batch) {
		batch = session_feed(scorer->session, tokens + done, n - 1 - done);
		if (batch < 0)
			return batch;
		if (done >= block_tokens)
			score_batch(scorer, 0, tokens + done + 1, (uint32_t)batch);
	}
	return 0;
}

int perplexity_run(struct session *session, uint32_t n_vocab, const uint32_t *tokens, size_t n,
		   uint32_t window, struct perplexity *ret)
{
	uint32_t block_tokens = session_store(session)->block_tokens;
	struct scorer scorer = { .session = session, .n_vocab = n_vocab };
	uint32_t n_windows = 0;
	int r = 0;

	scorer.logits = malloc((size_t)LOGIT_ROWS * n_vocab * sizeof(float));
	if (!scorer.logits)
		return -ENOMEM;
	for (size_t begin = 0; r == 0 && begin < n; begin += window) {
		uint32_t n_window = n - begin < window ? (uint32_t)(n - begin) : window;

		if (n_window < block_tokens + 2)
			break;
		r = score_window(&scorer, tokens + begin, n_window);
		n_windows++;
	}
	free(scorer.logits);
	if (r < 0)
		return r;
	if (scorer.n_scored == 0)
		return -ENODATA;
	*ret = (struct perplexity){
		.value = exp(scorer.sum / (double)scorer.n_scored),
		.n_scored = scorer.n_scored,
		.n_windows = n_windows,
	};
	return 0;
}
