"""`python -m headrace.testing origin`: the failing origin as a command. `delay`: see `headrace.testing.delay`.

    python -m headrace.testing origin --bucket models --directory ./models --rate 0.3 --seed 7

prints the endpoint, then serves until it is interrupted, and prints what it has served. Meanwhile the faults can
be changed and the counters read:

    curl -X PUT "$ENDPOINT/-/faults" -d '{"rate": 0, "always": {"qwen/weights.safetensors": "stall"}}'
    curl "$ENDPOINT/-/counters"
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from headrace.testing import delay
from headrace.testing.faults import POSSIBLE, Fault
from headrace.testing.origin import Origin, failing_origin
from headrace.testing.signatures import Key, Signatures


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    stopped = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopped)  # before there are threads, which inherit it
    if options.command == "delay":
        return _delay(options, stopped)
    try:
        fields = _fields(options)
        with failing_origin(*options.bucket, seed=options.seed, rate=options.rate, host=options.host, port=options.port) as origin:
            origin.faults.adjust(fields)
            _fill(origin, options)
            print(origin.access.endpoint, flush=True)
            signal.sigwait(stopped)
            print(json.dumps(origin.report()), file=sys.stderr)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    return 0


def _delay(options: argparse.Namespace, stopped: set[signal.Signals]) -> int:
    host, _, port = options.to.rpartition(":")
    listener, endpoint = delay.serve((host, int(port)), options.seconds, options.host, options.port)
    with listener:
        print(endpoint, flush=True)
        signal.sigwait(stopped)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m headrace.testing", description="Servers for tests.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    far = commands.add_parser("delay", help="a proxy that lets each request wait", description=delay.__doc__)
    far.add_argument("--to", required=True, metavar="HOST:PORT", help="the server")
    far.add_argument("--seconds", type=float, required=True, help="what each request waits")
    far.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    far.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    origin = commands.add_parser(
        "origin",
        help="an S3 server that fails on purpose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults: " + ", ".join(Fault),
    )
    add = origin.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    add("--bucket", action="append", help="name of a bucket, may be repeated; --directory fills the first (default: models)")
    add("--directory", type=Path, help="serve the files below it as objects, from where they lie")
    add("--versioning", action="store_true", help="the buckets keep versions")
    add(
        "--check-signatures", action="store_true", help="let in only what AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this environment have signed"
    )
    add("--bandwidth", type=float, metavar="BYTES", help="a ceiling for all bodies together, a second")
    faults = origin.add_argument_group("faults")
    add = faults.add_argument
    add("--seed", type=int, default=0, help="the same seed gives the same faults to the same requests (default: 0)")
    add("--rate", type=float, default=0.0, help="share of requests that get a fault, 0 to 1 (default: 0)")
    add(
        "--fault",
        action="append",
        metavar="FAULT[=WEIGHT]",
        help="faults to choose from, may be repeated (default: all that answers to ranges can have)",
    )
    add("--on", default="range", metavar="KINDS", help=f"kinds of requests the rate is for, of {','.join(POSSIBLE)} (default: %(default)s)")
    add("--always", action="append", metavar="KEY=FAULT", help="a fault for every ranged GET of a key (* for any), may be repeated")
    add("--script", default="", metavar="FAULT,…", help="what the next ranged GETs get, in order; `none` is a right answer")
    add("--in-a-row", type=int, default=3, help="after so many failures of one range the next answer is right (default: %(default)s)")
    add("--retry-after", type=int, help="seconds, sent with 503 and 429")
    add("--stall", type=float, default=60.0, help="seconds that a stall lasts before the connection is reset (default: %(default)s)")
    add("--late", type=float, default=0.5, help="seconds before a slow first byte (default: %(default)s)")
    add("--cap", type=int, default=256 << 10, help="bytes a second of a capped answer (default: %(default)s)")
    origin.set_defaults(bucket=[])
    return parser


def _fields(options: argparse.Namespace) -> dict[str, Any]:
    """The options as fields of `Faults`."""
    fields: dict[str, Any] = {"in_a_row": options.in_a_row, "stall": options.stall, "late": options.late, "cap": options.cap}
    fields["on"] = options.on.split(",")
    if options.retry_after is not None:
        fields["retry_after"] = options.retry_after
    if options.fault:
        fields["kinds"] = {name: weight or 1 for name, _, weight in (f.partition("=") for f in options.fault)}
    fields["always"] = {key: fault for key, _, fault in (a.rpartition("=") for a in options.always or [])}
    if options.script:
        fields["script"] = [None if f == "none" else f for f in options.script.split(",")]
    return fields


def _fill(origin: Origin, options: argparse.Namespace) -> None:
    buckets = options.bucket or ["models"]
    for name in buckets:
        origin.bucket(name).versioning = "Enabled" if options.versioning else None
    if options.directory is not None:
        if not options.directory.is_dir():
            raise ValueError(f"directory: {options.directory} is not a directory")
        origin.bucket(buckets[0]).put_tree(options.directory)
    if options.bandwidth is not None:
        origin.limit(options.bandwidth)
    if options.check_signatures:
        try:
            key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        except KeyError as missing:
            raise ValueError(f"{missing.args[0]}: --check-signatures needs it in the environment") from None
        origin.signatures = Signatures({key: Key(secret, os.environ.get("AWS_SESSION_TOKEN"))}, os.environ.get("AWS_REGION", "us-east-1"))


if __name__ == "__main__":
    sys.exit(main())
