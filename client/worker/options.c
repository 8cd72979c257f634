/* SPDX-License-Identifier: Apache-2.0 */
/* Each option is a name, a kind, and where its value goes; getopt_long() does the splitting. */
#include "client/worker/options.h"

#include "base/contract.h"
#include "base/units.h"
#include "client/worker/forward.h"
#include "client/worker/pool.h"
#include "client/worker/sample.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind {
	KIND_FLAG,   /* bool, set to true */
	KIND_TEXT,   /* const char * */
	KIND_NUMBER, /* uint32_t in [least, most] */
	KIND_FLOAT,  /* float in [least, most] */
	KIND_CODEC,  /* uint32_t; sets the next field too when it is --codec */
	KIND_ATTEND, /* bool, whether it is "packed" */
};

struct spec {
	const char *name;
	char letter; /* 0: none */
	enum kind kind;
	size_t offset;
	uint32_t least;
	uint32_t most;
	const char *argument;
	const char *help;
};

#define AT(field) offsetof(struct options, field)

static const struct spec specs[] = {
	{ "model", 'm', KIND_TEXT, AT(model), 0, 0, "MODEL",
	  "tiny (built in), smollm2 (see get-smollm2.sh), or a GGUF file" },
	{ "prompt", 'p', KIND_TEXT, AT(prompt), 0, 0, "TEXT", "continue this text" },
	{ "prompt-file", 'f', KIND_TEXT, AT(prompt_file), 0, 0, "FILE", "continue this file's text; - is stdin" },
	{ "prompts", 0, KIND_TEXT, AT(prompts_file), 0, 0, "FILE",
	  "continue each of the texts that lines of --- separate" },
	{ "follow", 0, KIND_TEXT, AT(follow_file), 0, 0, "FILE",
	  "go along these tokens, a line of numbers a prompt; say what would come" },
	{ "perplexity", 0, KIND_TEXT, AT(perplexity_file), 0, 0, "FILE", "measure the perplexity of a text" },
	{ "context", 0, KIND_NUMBER, AT(context), 2, 1u << 20, "N", "tokens a window of --perplexity [512]" },
	{ "tokens", 'n', KIND_NUMBER, AT(n_tokens), 0, 1u << 20, "N", "tokens to generate at most [128]" },
	{ "ignore-eos", 0, KIND_FLAG, AT(ignore_eos), 0, 0, NULL, "go on behind the model's end token" },
	{ "chat", 0, KIND_FLAG, AT(chat), 0, 0, NULL, "wrap the prompt as a chat message (ChatML)" },
	{ "system", 0, KIND_TEXT, AT(system), 0, 0, "TEXT", "system message of --chat" },
	{ "temperature", 0, KIND_FLOAT, AT(temperature), 0, 100, "X", "sample; 0 takes the likeliest token [0]" },
	{ "top-k", 0, KIND_NUMBER, AT(top_k), 1, SAMPLE_TOP_K_MAX, "N", "sample among the N likeliest [40]" },
	{ "seed", 0, KIND_NUMBER, AT(seed), 0, UINT32_MAX, "N", "of sampling [1]" },
	{ "codec", 'c', KIND_CODEC, AT(codec_k), 0, 0, "CODEC", "how finished blocks are kept [q8]" },
	{ "codec-k", 0, KIND_CODEC, AT(codec_k), 1, 0, "CODEC", "the same for K only" },
	{ "codec-v", 0, KIND_CODEC, AT(codec_v), 1, 0, "CODEC", "the same for V only" },
	{ "attend", 0, KIND_ATTEND, AT(packed), 0, 0, "packed|decoded",
	  "attention on the encoded blocks, or on them decoded to f32 [packed]" },
	{ "block-tokens", 0, KIND_NUMBER, AT(block_tokens), 1, FORWARD_BATCH_MAX, "N", "tokens a block [128]" },
	{ "dump-kv", 0, KIND_TEXT, AT(dump_kv_file), 0, 0, "FILE",
	  "write K and V of the one prompt as computed; needs --codec f32, --attend decoded" },
	{ "no-cache", 0, KIND_FLAG, AT(no_cache), 0, 0, NULL, "do not use kvpaged" },
	{ "require-cache", 0, KIND_FLAG, AT(require_cache), 0, 0, NULL, "fail when kvpaged cannot be reached" },
	{ "socket", 's', KIND_TEXT, AT(socket), 0, 0, "PATH",
	  "kvpaged's socket [$KVPAGED_SOCKET or /run/kvpaged/kvpaged.sock]" },
	{ "space", 0, KIND_TEXT, AT(space), 0, 0, "NAME", "name of the space [from model and codecs]" },
	{ "threads", 't', KIND_NUMBER, AT(threads), 1, POOL_THREADS_MAX, "N", "[all processors]" },
	{ "json", 'j', KIND_FLAG, AT(json), 0, 0, NULL, "one JSON object a prompt instead of text" },
	{ "quiet", 'q', KIND_FLAG, AT(quiet), 0, 0, NULL, "nothing on stderr but warnings and errors" },
	{ "help", 'h', KIND_FLAG, AT(help), 0, 0, NULL, "print this help" },
	{ "version", 'V', KIND_FLAG, AT(version), 0, 0, NULL, "print the version" },
};

#define N_SPECS (sizeof(specs) / sizeof(specs[0]))
/* What getopt_long() returns for specs[i]; letters are below. */
#define FIRST_INDEX 256

static const struct options defaults = {
	.model = "tiny",
	.system = "You are a helpful AI assistant.",
	.n_tokens = 128,
	.top_k = 40,
	.seed = 1,
	.codec_k = CODEC_Q8,
	.codec_v = CODEC_Q8,
	.packed = true,
	.block_tokens = 128,
	.context = 512,
};

static int set_number(const struct spec *spec, const char *text, uint32_t *ret, struct fault *fault)
{
	uint64_t value;

	if (units_parse_u64(text, &value) < 0 || value < spec->least || value > spec->most)
		return fault_set(fault, -EINVAL,
				 "--%s wants a whole number from %" PRIu32 " to %" PRIu32 ", not \"%s\"",
				 spec->name, spec->least, spec->most, text);
	*ret = (uint32_t)value;
	return 0;
}

static int set_float(const struct spec *spec, const char *text, float *ret, struct fault *fault)
{
	char *end;
	float value = strtof(text, &end);

	if (end == text || *end || !(value >= (float)spec->least && value <= (float)spec->most))
		return fault_set(fault, -EINVAL, "--%s wants a number from %" PRIu32 " to %" PRIu32
				 ", not \"%s\"", spec->name, spec->least, spec->most, text);
	*ret = value;
	return 0;
}

static int set_codec(const struct spec *spec, const char *text, uint32_t *ret, struct fault *fault)
{
	enum codec_id codec;

	if (!codec_from_name(text, &codec))
		return fault_set(fault, -EINVAL, "--%s wants a codec (see --help), not \"%s\"", spec->name, text);
	*ret = (uint32_t)codec;
	return 0;
}

static int set_attend(const struct spec *spec, const char *text, bool *ret, struct fault *fault)
{
	bool packed = strcmp(text, "packed") == 0;

	if (!packed && strcmp(text, "decoded") != 0)
		return fault_set(fault, -EINVAL, "--%s wants packed or decoded, not \"%s\"", spec->name, text);
	*ret = packed;
	return 0;
}

static int set_option(const struct spec *spec, const char *text, struct options *options,
		      struct fault *fault)
{
	void *field = (char *)options + spec->offset;
	int r;

	switch (spec->kind) {
	case KIND_FLAG:
		*(bool *)field = true;
		return 0;
	case KIND_TEXT:
		*(const char **)field = text;
		return 0;
	case KIND_NUMBER:
		return set_number(spec, text, field, fault);
	case KIND_FLOAT:
		return set_float(spec, text, field, fault);
	case KIND_CODEC:
		r = set_codec(spec, text, field, fault);
		/* --codec, whose `least` is 0, is for both. */
		if (r == 0 && spec->least == 0)
			options->codec_v = options->codec_k;
		return r;
	case KIND_ATTEND:
		return set_attend(spec, text, field, fault);
	}
	kvp_unreachable();
}

/* The options as getopt_long() wants them. */
static void fill_getopt(struct option longs[N_SPECS + 1], char shorts[2 * N_SPECS + 2])
{
	char *next = shorts;

	*next++ = ':'; /* a missing argument is told apart */
	for (size_t i = 0; i < N_SPECS; i++) {
		longs[i] = (struct option){
			.name = specs[i].name,
			.has_arg = specs[i].argument ? required_argument : no_argument,
			.val = FIRST_INDEX + (int)i,
		};
		if (!specs[i].letter)
			continue;
		*next++ = specs[i].letter;
		if (specs[i].argument)
			*next++ = ':';
	}
	longs[N_SPECS] = (struct option){ 0 };
	*next = '\0';
}

static const struct spec *find_spec(int code)
{
	if (code >= FIRST_INDEX)
		return &specs[code - FIRST_INDEX];
	for (size_t i = 0; i < N_SPECS; i++)
		if (specs[i].letter == (char)code)
			return &specs[i];
	kvp_unreachable();
}

/* Finished blocks of any other codec or form are no longer what was computed. */
static int check_dump(const struct options *options, struct fault *fault)
{
	if (options->prompts_file || options->perplexity_file)
		return fault_set(fault, -EINVAL, "--dump-kv wants --prompt or --prompt-file");
	if (options->codec_k != CODEC_F32 || options->codec_v != CODEC_F32 || options->packed)
		return fault_set(fault, -EINVAL, "--dump-kv wants --codec f32 --attend decoded");
	return 0;
}

static int check_task(const struct options *options, struct fault *fault)
{
	int n = !!options->prompt + !!options->prompt_file + !!options->prompts_file +
		!!options->perplexity_file;

	if (options->follow_file && options->perplexity_file)
		return fault_set(fault, -EINVAL, "--follow wants prompts, not --perplexity");
	if (options->dump_kv_file && check_dump(options, fault) < 0)
		return -EINVAL;
	if (options->help || options->version || n == 1)
		return 0;
	return fault_set(fault, -EINVAL,
			 "give one of --prompt, --prompt-file, --prompts and --perplexity (see --help)");
}

int options_parse(int argc, char **argv, struct options *ret, struct fault *fault)
{
	struct option longs[N_SPECS + 1];
	char shorts[2 * N_SPECS + 2];
	struct options options = defaults;
	int code;

	fill_getopt(longs, shorts);
	opterr = 0;
	optind = 1;
	while ((code = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		int r;

		if (code == '?')
			return fault_set(fault, -EINVAL, "unknown option %s", argv[optind - 1]);
		if (code == ':')
			return fault_set(fault, -EINVAL, "%s wants a value", argv[optind - 1]);
		r = set_option(find_spec(code), optarg, &options, fault);
		if (r < 0)
			return r;
	}
	if (optind < argc)
		return fault_set(fault, -EINVAL, "\"%s\" is not an option", argv[optind]);
	if (check_task(&options, fault) < 0)
		return -EINVAL;
	*ret = options;
	return 0;
}

void options_print_help(FILE *stream)
{
	(void)fputs("Usage: kvworker [--model MODEL] --prompt TEXT [option]...\n"
		    "\n"
		    "Continues a text with a llama-family model on the CPU. Finished blocks of the KV cache are\n"
		    "kept in kvpaged, so that another run with the same beginning need not compute it.\n"
		    "\n", stream);
	for (size_t i = 0; i < N_SPECS; i++) {
		const struct spec *spec = &specs[i];
		char left[64];

		(void)snprintf(left, sizeof(left), "%c%c%c --%s %s", spec->letter ? '-' : ' ',
			       spec->letter ? spec->letter : ' ', spec->letter ? ',' : ' ', spec->name,
			       spec->argument ? spec->argument : "");
		(void)fprintf(stream, "  %-38s %s\n", left, spec->help);
	}
	(void)fputs("\n"
		    "Codecs: f32 f16 bf16 q8 q6 q5 q4 t8 t6 t5 t4, and for V each t also as t8g32, t8g16 and so on.\n"
		    "The text goes to stdout, talk to stderr. KVC_ISA=scalar|avx2|avx512 forces an instruction set.\n"
		    "Exit codes: 0 done, 1 failed, 2 usage, 3 model not found, 69 kvpaged cannot be reached\n"
		    "(only with --require-cache; otherwise the run goes on without it).\n", stream);
}
