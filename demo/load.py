"""`python -m demo.load LOADER FILE`: loads a model in a process of its own and prints what that took as JSON.

The clock starts when the libraries are imported and nothing of the file has been touched. `loaded` is the time until
every weight is in memory (safetensors) or the model is ready to answer (llama.cpp), `first_token` the time until the
first piece of the answer, both in seconds.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

PROMPT = "In a hydroelectric power station, water flows from the reservoir to the turbine through"
_TOKENS = 19


def load_safetensors(path: str) -> dict[str, Any]:
    """Every tensor as a NumPy array; the answer is what can be said of all of them."""
    from safetensors.numpy import load_file

    began = perf_counter()
    tensors = load_file(path)
    loaded = perf_counter() - began
    weights = sum(tensor.size for tensor in tensors.values())
    total = sum(float(tensor.sum(dtype="float64")) for tensor in tensors.values())
    return {"loaded": loaded, "first_token": None, "answer": f"{len(tensors)} tensors, {weights:,} weights, their sum {total:.4f}"}


def load_gguf(path: str) -> dict[str, Any]:
    """llama.cpp as a server in this process, which continues the prompt without chance."""
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = path
    params.n_ctx = 512
    params.warmup = False
    # One thread: on a busy machine llama.cpp's threads wait for one another by spinning.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    pieces: list[tuple[float, str]] = []

    def take(part: dict[str, Any]) -> bool:
        pieces.append((perf_counter() - began, part["choices"][0]["text"]))
        return False

    began = perf_counter()
    server = Server(params)
    loaded = perf_counter() - began
    server.handle_completions({"prompt": PROMPT, "n_predict": _TOKENS, "temperature": 0.0, "stream": True}, take)
    return {"loaded": loaded, "first_token": pieces[0][0], "answer": "".join(text for _, text in pieces)}


LOADERS = {"safetensors": load_safetensors, "gguf": load_gguf}

if __name__ == "__main__":
    print(json.dumps(LOADERS[sys.argv[1]](sys.argv[2])))
