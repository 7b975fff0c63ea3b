"""What tests of Headrace, and of programs that use it, need: real servers, failing ones, known bytes.

- `headrace.testing.seaweed`: SeaweedFS, a real S3 server, for as long as a `with` lasts.
- `headrace.testing.origin`: an S3 server of our own that keeps keys flat and fails in every way an origin can.
- `headrace.testing.content`: bytes that are known at every offset, and models made of them.

`python -m headrace.testing origin --help` starts the failing server as a command.
"""
