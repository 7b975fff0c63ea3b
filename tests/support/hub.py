"""A model in the layout of a Hugging Face hub cache, as it lies in a bucket: copied there, so that what are links on a disk are objects."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import save

NAME = "Qwen/Qwen1.5-tiny"
_REVISION = "0123456789abcdef0123456789abcdef01234567"
_DIRECTORY = f"models--{NAME.replace('/', '--')}"
SNAPSHOT = f"{_DIRECTORY}/snapshots/{_REVISION}"
WEIGHTS = "model.safetensors"
HIDDEN_SIZE = 64
TEXT = "the water runs down the race"

# For a program that has no network: tells what transformers makes of the model, and what its weights are.
LOAD = f"""
import json
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import cached_file
tokenizer = AutoTokenizer.from_pretrained({NAME!r})
weights = cached_file({NAME!r}, {WEIGHTS!r})
print(json.dumps({{
    "hidden_size": AutoConfig.from_pretrained({NAME!r}).hidden_size,
    "text": tokenizer.decode(tokenizer({TEXT!r})["input_ids"]),
    "weights": weights,
    "sum": float(load_file(weights)["model.embed_tokens.weight"].sum()),
}}))
"""


def files(mib: int) -> dict[str, bytes]:
    """The model's files, with so many MiB of weights."""
    tokens = ["<|endoftext|>", "Ġ", *dict.fromkeys(TEXT.replace(" ", ""))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    config = {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": HIDDEN_SIZE,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": len(tokens),
    }
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    said = {"config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"}}
    found = {f"{SNAPSHOT}/{name}": json.dumps(content).encode() for name, content in said.items()}
    weights = save({"model.embed_tokens.weight": np.ones((mib << 12, HIDDEN_SIZE), np.float32)})
    return {f"{_DIRECTORY}/refs/main": _REVISION.encode(), **found, f"{SNAPSHOT}/{WEIGHTS}": weights}


def weights_sum(mib: int) -> float:
    return float((mib << 12) * HIDDEN_SIZE)
