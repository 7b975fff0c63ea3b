"""`python -m bench.service.llama FILE`: a real llama.cpp server with a model, asked over HTTP; prints when its first answer came.

The clock is the kernel's monotonic one, which whoever started this reads too. One thread, as `make demo` has it: on a busy machine llama.cpp's
threads wait for one another by spinning.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from urllib.parse import urlsplit

PROMPT = "In a hydroelectric power station, water flows from the reservoir to the turbine through"
_TOKENS = 19
_SECONDS = 300


def main() -> None:
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = 512
    params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = Server(params)
    loaded = time.monotonic()
    first, answer = _ask(server.listening_address)
    print(json.dumps({"loaded": loaded, "first": first, "answered": time.monotonic(), "answer": answer}), flush=True)
    os._exit(0)  # unloading is nobody's wait


def _ask(address: str) -> tuple[float, str]:
    """When the first piece of the answer came, and all of it."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=_SECONDS)
    said = {"prompt": PROMPT, "n_predict": _TOKENS, "temperature": 0.0, "stream": True}
    connection.request("POST", "/completion", json.dumps(said), {"Content-Type": "application/json"})
    pieces, first = [], 0.0
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            first = first or time.monotonic()
            pieces.append(str(json.loads(line[6:]).get("content", "")))
    return first, "".join(pieces)


if __name__ == "__main__":
    main()
