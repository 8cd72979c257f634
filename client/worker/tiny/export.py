# SPDX-License-Identifier: Apache-2.0
"""model.pt and merges.json -> a GGUF file (matrices F16, norms F32), and the way back.

`--out` writes the file and checks it by reading it again. `--reference` writes
what the model computes from the file's own rounded weights, in float64, as a
test of other implementations: see reference().
"""
import argparse
import hashlib
import json
import os
import sys

import gguf
import numpy
import torch

from bpe import Tokenizer
from model import Config, Llama

FILE_BYTES_MAX = 8_000_000
GREEDY_TOKENS = 24
BLOCK_TENSORS = {
    "attn_norm": "attention_norm", "attn_q": "attention.q", "attn_k": "attention.k",
    "attn_v": "attention.v", "attn_output": "attention.out", "ffn_norm": "ffn_norm",
    "ffn_gate": "ffn.gate", "ffn_up": "ffn.up", "ffn_down": "ffn.down",
}
DESCRIPTION = ("Small English text model for trying out and testing a KV cache. It continues text; "
               "it knows no facts and follows no instructions.")
REFERENCE_PROMPTS = (
    "The morning was cold and clear, and",
    '"I do not understand," said Anne, "why the letter was never sent."',
    "It was late in the autumn when Mr. Harding returned to the house by the river. The "
    "garden had been left to itself all summer; the paths were covered with leaves, and "
    "the old wall near the gate had fallen in two places. He walked slowly up to the door, "
    "and stood there for some time without knocking, because he could not decide what he "
    "ought to say. His sister had written to him only once since the spring, and her "
    "letter had been short. She told him that their mother was well, that the harvest had "
    "been better than anyone expected, and that the new road would pass within a mile of "
    "the village. Of the quarrel she had said nothing at all. He had read the letter many "
    "times, and every time he had found something in it that troubled him. At last he "
    "raised his hand and knocked. For a while there was no answer. Then he heard steps in "
    "the hall, and the sound of a key in the lock, and the door was opened by a girl whom "
    "he had never seen before. She looked at him with some surprise, but she was very "
    "polite. \"If you are come to see the mistress, sir,\" said she, \"I am afraid that she "
    "is not at home. She went out an hour ago with the doctor, and they did not tell me "
    "when they would be back. But you are welcome to wait in the parlour, where there is a "
    "good fire.\" He thanked her, and followed her into the room. Nothing in it had been "
    "changed. The same chairs stood by the window, the same books lay on the table, and "
    "the clock on the wall still showed the wrong hour. He sat down by the fire, and",
)


def tensor_names(config):
    """GGUF tensor name -> parameter name, in file order."""
    names = {"token_embd": "embedding"}
    for i in range(config.blocks):
        names.update({f"blk.{i}.{ours}": f"blocks.{i}.{theirs}"
                      for ours, theirs in BLOCK_TENSORS.items()})
    names["output_norm"] = "norm"
    return {g + ".weight": p + ".weight" for g, p in names.items()}


def write_gguf(path, config, state, tokenizer):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("kvpaged tiny")
    writer.add_description(DESCRIPTION)
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.blocks)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.tokens)
    types = [gguf.TokenType.NORMAL] * (len(tokenizer.tokens) - 1) + [gguf.TokenType.CONTROL]
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.end_of_text)
    writer.add_eos_token_id(tokenizer.end_of_text)
    writer.add_add_bos_token(False)
    for name, parameter in tensor_names(config).items():
        value = state[parameter].float().numpy()
        writer.add_tensor(name, value.astype(numpy.float16) if value.ndim == 2 else value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path):
    """The model and the tokenizer of a file written by write_gguf."""
    reader = gguf.GGUFReader(path)

    def field(name):
        return reader.fields[name].contents()

    heads, width = field("llama.attention.head_count"), field("llama.embedding_length")
    config = Config(
        vocabulary=field("llama.vocab_size"), context=field("llama.context_length"), width=width,
        blocks=field("llama.block_count"), heads=heads,
        kv_heads=field("llama.attention.head_count_kv"), head_dim=width // heads,
        hidden=field("llama.feed_forward_length"),
        norm_epsilon=float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        rope_theta=field("llama.rope.freq_base"))
    stored = {t.name: torch.from_numpy(t.data.astype(numpy.float32)) for t in reader.tensors}
    names = tensor_names(config)
    if set(stored) != set(names):
        sys.exit(f"export: {path}: unexpected tensors: {set(stored) ^ set(names)}")
    model = Llama(config)
    model.load_state_dict({parameter: stored[name] for name, parameter in names.items()})
    tokenizer = Tokenizer([m.split(" ") for m in field("tokenizer.ggml.merges")])
    if tokenizer.tokens != field("tokenizer.ggml.tokens"):
        sys.exit(f"export: {path}: the token list does not follow from the merges")
    return model.eval(), tokenizer


def check(path, config, state, tokenizer):
    """Stop unless the file holds every weight at F16 precision and fits the size limit."""
    model, stored_tokenizer = read_gguf(path)
    if stored_tokenizer.merges != tokenizer.merges or model.config != config:
        sys.exit(f"export: {path}: the settings read back differ")
    for name, value in model.state_dict().items():
        wanted = state[name].half().float() if value.dim() == 2 else state[name]
        if not torch.equal(value, wanted):
            sys.exit(f"export: {path}: {name} reads back differently")
    size = os.path.getsize(path)
    if size > FILE_BYTES_MAX:
        sys.exit(f"export: {path}: {size} bytes are more than {FILE_BYTES_MAX}")
    print(f"export: {path}: {size} bytes, {model.parameter_count()} parameters, checked")


@torch.no_grad()
def prompt_reference(model, tokenizer, prompt):
    """What one prompt gives: its ids, and 24 tokens chosen greedily with the margin of each."""
    ids = tokenizer.encode(prompt)
    logits = model(torch.tensor([ids]))[0]
    greedy, margins = [], []
    while len(greedy) < GREEDY_TOKENS:
        best = model(torch.tensor([ids + greedy]))[0, -1].topk(2)
        greedy.append(best.indices[0].item())
        margins.append(round((best.values[0] - best.values[1]).item(), 6))
    return {"prompt": prompt, "tokens": ids,
            "next_token": greedy[0], "next_logits_first_8": rounded(logits[-1, :8]),
            "max_logit_first_4_positions": rounded(logits[:4].max(-1).values),
            "argmax_first_4_positions": logits[:4].argmax(-1).tolist(),
            "greedy_tokens": greedy, "greedy_margins": margins,
            "greedy_text": tokenizer.decode(greedy)}


def rounded(values):
    return [round(v, 6) for v in values.tolist()]


def reference(model_path, out):
    """Write reference.json. Margins are best minus second-best logit: where one is small, another
    implementation may rightly choose the other token."""
    model, tokenizer = read_gguf(model_path)
    model = model.double()
    with open(model_path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    result = {"model": os.path.basename(model_path), "sha256": digest,
              "arithmetic": "float64, weights as in the file, no token put before the prompt",
              "prompts": [prompt_reference(model, tokenizer, p) for p in REFERENCE_PROMPTS]}
    with open(out, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    for p in result["prompts"]:
        print(f"export: {len(p['tokens'])} tokens, smallest margin {min(p['greedy_margins'])}, "
              f"continued: {p['greedy_text']!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", help="folder with model.pt and merges.json: write --out")
    parser.add_argument("--out", required=True, help="the GGUF file")
    parser.add_argument("--reference", help="write reference values of --out to this JSON file")
    args = parser.parse_args()
    if args.build:
        saved = torch.load(f"{args.build}/model.pt", weights_only=True)
        config, tokenizer = Config(**saved["config"]), Tokenizer.load(f"{args.build}/merges.json")
        write_gguf(args.out, config, saved["state"], tokenizer)
        check(args.out, config, saved["state"], tokenizer)
    if args.reference:
        reference(args.out, args.reference)


if __name__ == "__main__":
    main()
