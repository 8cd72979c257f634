# SPDX-License-Identifier: Apache-2.0
"""Which model this is: all that its K and V depend on beside the tokens, as the salt of prefix_keys(). Two processes
with the same model find each other's blocks, and those of another model never."""
from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

# Say nothing about the values of K and V, and change between releases and machines.
_VOLATILE = {"transformers_version", "use_cache", "architectures", "torch_dtype", "quantization_config",
             "output_attentions", "output_hidden_states", "return_dict", "id2label", "label2id"}

# So many values of each parameter are looked at: enough to tell apart weights that were trained differently.
_SAMPLES = 64


def fingerprint(model: Any) -> str:
    """16 hexadecimal digits that change with the weights: names, shapes and a sample of each parameter."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        step = max(1, values.numel() // _SAMPLES)
        sample = values[::step][:_SAMPLES].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        digest.update(np.ascontiguousarray(sample, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def identity(model_id: str, revision: str, dtype: str, config: dict[str, Any]) -> bytes:
    """32 bytes. The whole configuration is in it: that of the rotation, for one,
    decides what K is."""
    facts = {name: value for name, value in config.items() if name not in _VOLATILE and not name.startswith("_")}
    text = json.dumps(["kvclient.transformers 1", model_id, revision, dtype, facts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).digest()
