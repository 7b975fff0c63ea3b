"""Reads an object with Run:ai Model Streamer; see the package. Runs in the peers' environment."""

import sys
import time

from runai_model_streamer import FileChunks, FileStreamer

PART = 8 << 20


def main() -> None:
    bucket, key, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sizes = [min(PART, size - offset) for offset in range(0, size, PART)]
    began = time.monotonic()
    with FileStreamer() as streamer:
        streamer.stream_files([FileChunks.contiguous(0, f"s3://{bucket}/{key}", 0, sizes)])
        held = [chunk for _, _, chunk in streamer.get_chunks()]  # as a program that wants them in memory
        seconds = time.monotonic() - began
    got = sum(chunk.numel() for chunk in held)
    if got != size:
        sys.exit(f"{got} of {size} bytes")
    print(seconds)


if __name__ == "__main__":
    main()
