"""nginx that serves a directory as a bucket: the fastest thing there is, so that the server is not what is measured.

Ranged GETs, ETags and If-Match are nginx's own. A listing is one document for each prefix, prepared beforehand, without
pages: what asks for `list-type=2` gets it. Versions are refused, as to a reader who may not see them. Every signature is
accepted, for none is looked at.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen
from xml.sax.saxutils import escape

from bench import packages
from headrace.testing.access import Access
from headrace.testing.waiting import wait_until

_START_SECONDS = 20
_END_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Nginx(Access):
    """A running server."""

    pid: int


@contextmanager
def nginx(bucket: str, root: Path, prefixes: list[str], base: Path, *, workers: int = 2) -> Iterator[Nginx]:
    """Serves the files below `root` as the objects of a bucket; only these prefixes can be listed."""
    (base / "lists").mkdir(parents=True)
    for number, prefix in enumerate(prefixes):
        (base / f"lists/{number}.xml").write_text(listing(bucket, root, prefix))
    port = _free_port()
    configuration = base / "nginx.conf"
    configuration.write_text(_configuration(bucket, root, prefixes, base, port, workers))
    command = [packages.program("nginx") or "nginx", "-c", str(configuration), "-p", str(base), "-e", str(base / "error.log")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or _answers(endpoint), "nginx answers", timeout=_START_SECONDS)
        if process.poll() is not None:
            raise RuntimeError(f"nginx did not start: {(base / 'error.log').read_text(errors='replace')[-2000:]}")
        yield Nginx(endpoint, pid=process.pid)
    finally:
        process.terminate()
        process.wait(_END_SECONDS)


def _configuration(bucket: str, root: Path, prefixes: list[str], base: Path, port: int, workers: int) -> str:
    wanted = "".join(f'"{form}" /{number}.xml;\n' for number, prefix in enumerate(prefixes) for form in _forms(prefix))
    temporary = "".join(f"{kind}_temp_path {base}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
daemon off;
user root;
pid {base}/pid;
worker_processes {workers};
events {{ worker_connections 1024; }}
http {{
    {temporary}
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 10000000;
    keepalive_timeout 300;
    default_type application/octet-stream;
    map $args $asked {{
        default object;
        "~(^|&)list-type=2(&|$)" list;
        "~(^|&)(versions|versioning)(=|&|$)" versions;
    }}
    map $arg_prefix $list {{
        default /none;
        {wanted}
    }}
    server {{
        listen 127.0.0.1:{port} backlog=512;
        location = /alive {{ return 200; }}
        location ~ ^/{bucket}/?$ {{
            if ($asked = versions) {{ return 403; }}
            if ($asked = list) {{ rewrite ^ /lists$list last; }}
            return 200;
        }}
        location /lists/ {{ internal; root {base}; default_type application/xml; types {{ }} }}
        location /{bucket}/ {{ alias {root}/; types {{ }} }}
    }}
}}
"""


def _forms(prefix: str) -> set[str]:
    """How clients write a prefix in an address."""
    return {f"{prefix}/", quote(f"{prefix}/"), quote(f"{prefix}/", safe="")}


def listing(bucket: str, root: Path, prefix: str) -> str:
    """All keys below a prefix, in byte order, on one page."""
    files = sorted((path.relative_to(root).as_posix().encode(), path) for path in (root / prefix).rglob("*") if path.is_file())
    contents = "".join(_entry(key.decode(), path) for key, path in files)
    head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}/</Prefix><KeyCount>{len(files)}</KeyCount><MaxKeys>{len(files)}</MaxKeys>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{head}<IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    )


def _entry(key: str, path: Path) -> str:
    """ETag as nginx makes it: time and size of the file in hexadecimal."""
    status = path.stat()
    seconds = int(status.st_mtime)
    modified = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    tag = f"&quot;{seconds:x}-{status.st_size:x}&quot;"
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified><ETag>{tag}</ETag>"
        f"<Size>{status.st_size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(endpoint: str) -> bool:
    try:
        with urlopen(f"{endpoint}/alive", timeout=5):
            return True
    except OSError:
        return False
