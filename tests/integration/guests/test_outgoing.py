# SPDX-License-Identifier: Apache-2.0
"""Outgoing requests of components: what is granted goes out and streams back, anything else is the guest's error."""
import time

import pytest

MANY = ("many-p2", "many-p3")
BODY = bytes(i % 251 for i in range(300_000))


@pytest.fixture(params=MANY)
def granted(request, side, servers, upstream):
    options = ("--egress", f"127.0.0.1:{upstream.server_port}") if side == "wherry" else ()
    server = servers(side, request.param, *options)
    upstream.seen.clear()
    return server


def through(server, url, body=None, query=""):
    return server.ask(f"/outgoing{query}", body, fields={"X-Url": url})


def test_denied_unless_granted(servers, upstream):
    upstream.seen.clear()
    for name in MANY:
        answer = through(servers("wherry", name), f"{upstream.url}/hello")
        assert answer.status == 502 and (b"Denied" in answer.body or b"Prohibited" in answer.body), answer
    assert not upstream.seen


def test_another_port_is_denied(servers, upstream):
    for name in MANY:
        server = servers("wherry", name, "--egress", f"127.0.0.1:{upstream.server_port}")
        answer = through(server, f"http://127.0.0.1:{server.port}/hello")
        assert answer.status == 502 and (b"Denied" in answer.body or b"Prohibited" in answer.body), answer


def test_an_answer_comes_through(granted, upstream):
    answer = through(granted, f"{upstream.url}/hello?a=b")
    assert (answer.status, answer["x-upstream-status"], answer.body) == (200, "200", b"upstream\n")
    method, path, fields = upstream.seen[-1]
    assert (method, path, fields.get("x-from", fields.get("X-From"))) == ("GET", "/hello?a=b", "guest")
    assert next(v for k, v in fields.items() if k.lower() == "host") == f"127.0.0.1:{upstream.server_port}"


def test_bodies_go_both_ways(granted, upstream):
    answer = through(granted, f"{upstream.url}/post", BODY)
    assert (answer["x-upstream-status"], answer.body) == ("200", BODY)


def test_a_large_answer_is_streamed(granted, upstream):
    answer = through(granted, f"{upstream.url}/big?bytes=3000000")
    assert answer.whole and answer.body == bytes(i % 251 for i in range(3_000_000))


def test_a_redirect_is_the_guests_to_follow(granted, upstream):
    assert through(granted, f"{upstream.url}/redirect")["x-upstream-status"] == "302"


def test_nobody_listens(servers, side):
    for name in MANY:
        server = servers(side, name, *(("--egress", "127.0.0.1:1") if side == "wherry" else ()))
        answer = through(server, "http://127.0.0.1:1/")
        assert answer.status == 502 and b"ConnectionRefused" in answer.body, answer


def test_a_guests_own_timeout(granted, upstream):
    began = time.monotonic()
    answer = through(granted, f"{upstream.url}/never", query="?timeout=300")
    assert answer.status == 502 and b"Timeout" in answer.body, answer
    assert time.monotonic() - began < 10


def test_an_answer_that_breaks_off(granted, upstream):
    answer = through(granted, f"{upstream.url}/cut")
    assert answer.body.startswith(b"half") and (b"broke off" in answer.body or not answer.whole), answer


def test_an_answer_that_is_not_http(granted, upstream):
    answer = through(granted, f"{upstream.url}/garbage")
    assert answer.status == 502 and b"ErrorCode::" in answer.body, answer


def test_unknown_schemes_are_refused(granted):
    assert through(granted, "gopher://127.0.0.1:70/").status in (400, 502)
