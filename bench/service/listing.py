"""The listing of a prefix and nothing else: the engine's own, in a process of its own, as a node lists when it is asked to.

`python -m bench.service.listing ENDPOINT BUCKET PREFIX` prints the seconds and the number of files; keys come from the environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headrace.testing.access import Access

_WORKERS = 8  # as `headrace.node.agent.listing` has them
_LONGEST_SECONDS = 300


def raw_listing(access: Access, bucket: str, prefix: str, files: int) -> float:
    """Seconds of one listing. RuntimeError where it does not find so many files."""
    command = [sys.executable, "-m", "bench.service.listing", access.endpoint, bucket, prefix]
    environment = os.environ | access.environment()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=_LONGEST_SECONDS)
    seconds, found = json.loads(done.stdout)
    if found != files:
        raise RuntimeError(f"{prefix} has {found} files, not {files}")
    return float(seconds)


def main() -> None:
    from headrace import settings
    from headrace.node.engines import add_origin, start_engine

    endpoint, bucket, prefix = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="headrace-bench-listing-") as scratch:
        own = {"HEADRACE_CACHE_DIR": f"{scratch}/cache", "HEADRACE_CACHE_SIZE": "1Gi", "HEADRACE_CACHE_RESERVE": "0", "HOME": scratch}
        chosen = settings.load({}, own)
        engine = start_engine(chosen, [])
        keys = {"access_key": os.environ["AWS_ACCESS_KEY_ID"], "secret_key": os.environ["AWS_SECRET_ACCESS_KEY"], "session_token": ""}
        origin = {
            "endpoint": endpoint,
            "region": os.environ["AWS_REGION"],
            "addressing": "path",
            "anonymous": False,
            "ca_bundle": None,
            "proxy": None,
        }
        add_origin(engine, chosen, "origin", bucket, {**origin, **keys, "anonymous": False, "ca_bundle": None, "proxy": None})
        began = time.monotonic()
        report = engine.list("origin", prefix, str(Path(scratch) / "candidate.snap"), _WORKERS, lambda _files, _bytes: True)
        print(json.dumps([time.monotonic() - began, report["files"]]), flush=True)
        os._exit(0)  # the engine's threads have nothing to finish


if __name__ == "__main__":
    main()
