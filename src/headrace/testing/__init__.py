"""What tests of Headrace, and of programs that use it, need: real servers, failing ones, known bytes.

- `headrace.testing.seaweed`: SeaweedFS, a real S3 server, for as long as a `with` lasts.
- `headrace.testing.origin`: an S3 server of our own that keeps keys flat and fails in every way an origin can.
- `headrace.testing.delay`: a proxy that lets each request wait, as distance does.
- `headrace.testing.content`: bytes that are known at every offset, and models made of them.

`python -m headrace.testing origin --help` starts the failing server as a command.

The failing origin is made of `faults` (which request gets which fault), `store` (flat keys with versions), `wire`
(HTTP/1.1), `listing` (pages of keys), `signatures` (who may ask) and `answers` (S3's operations); it needs nothing
beside the standard library, except numpy for objects that are given as seeds.
"""
