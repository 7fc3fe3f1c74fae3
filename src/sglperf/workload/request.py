"""A planned request as the bytes that go over the wire."""

from __future__ import annotations

from urllib.parse import urlsplit

import orjson

from sglperf.errors import WorkloadError
from sglperf.workload.plan import RequestPlan

HEAD = (
    "POST {path}/generate HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
)


def http_request(base_url: str, request: RequestPlan) -> bytes:
    """The complete HTTP request: greedy, of exact length, streamed, on a connection of its own."""
    url = urlsplit(base_url)
    sampling = {"max_new_tokens": request.max_new_tokens, "temperature": 0, "ignore_eos": True}
    asked = {"input_ids": request.input_ids, "stream": True, "sampling_params": sampling}
    if request.priority is not None:
        asked["priority"] = request.priority
    body = orjson.dumps(asked)
    head = HEAD.format(path=url.path.rstrip("/"), host=url.netloc)
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def server_address(base_url: str) -> tuple[str, int]:
    """Host and port of a server's base URL.

    Raises:
        WorkloadError: the client speaks plain HTTP only; a server under test is on this machine.
    """
    try:
        url = urlsplit(base_url)
        host, port = url.hostname, url.port
    except ValueError:  # a port that is no number, an unclosed bracket
        host = None
    if not host or url.scheme != "http":
        raise WorkloadError(f"{base_url!r} is no address for the measurement client: give http://HOST:PORT")
    return host, port or 80
