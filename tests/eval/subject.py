# SPDX-License-Identifier: Apache-2.0
"""The model under test: SmolLM2-135M-Instruct from its GGUF file, or a small one of random weights."""
import os
import re
import shutil

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

NAME = "SmolLM2-135M-Instruct (Q4_1, dequantised to f32)"
TINY_NAME = "a llama of random weights"
TINY_VOCABULARY = 259


class Bytes:
    """A tokenizer of bytes, for the model of random weights."""

    pad_token_id = 0

    def encode(self, text):
        return [1] + [3 + byte for byte in text.encode()]

    def chat(self, turns):
        return self.encode("\n".join(text for _role, text in turns))


class Pretrained:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.pad_token_id = tokenizer.pad_token_id

    def encode(self, text):
        return self.tokenizer(text, verbose=False).input_ids

    def chat(self, turns):
        messages = [{"role": role, "content": text} for role, text in turns]
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.encode(text)


def _convert(gguf, directory):
    """transformers takes a minute to read the GGUF file; what it made of it is kept."""
    folder, file = os.path.split(gguf)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    # Not quantised any more, so it is not loaded as if it were.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    scratch = directory + ".new"
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    os.rename(scratch, directory)


def pretrained(gguf, work):
    directory = os.path.join(work, re.sub(r"\.gguf$", "", os.path.basename(gguf)))
    if not os.path.isdir(directory):
        _convert(gguf, directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return model, Pretrained(AutoTokenizer.from_pretrained(directory))


def tiny():
    torch.manual_seed(1)
    config = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
                         num_key_value_heads=2, vocab_size=TINY_VOCABULARY, max_position_embeddings=4096,
                         initializer_range=0.2)
    return LlamaForCausalLM(config).eval(), Bytes()
