# SPDX-License-Identifier: Apache-2.0
"""Plain programs of WASI preview 1 as functions, in four languages: CGI style, and body in, body out."""
import threading

import pytest

LANGUAGES = {"function-c": "C", "function-rust": "Rust", "function-go": "Go", "function-as": "AssemblyScript"}
BODY = bytes(i % 251 for i in range(200_000))


@pytest.fixture(params=LANGUAGES)
def language(request):
    return request.param


def wagi(servers, name, *options):
    return servers("wherry", name, "--serve", "wagi", *options)


def stream(servers, name, *options):
    return servers("wherry", name, "--serve", "stream", *options)


def variables(answer):
    return dict(line.split("=", 1) for line in answer.body.decode().splitlines() if "=" in line)


def test_wagi_says_hello(language, servers):
    answer = wagi(servers, language).ask("/cgi/hello")
    assert (answer.status, answer["content-type"], answer["x-language"]) == (200, "text/plain", LANGUAGES[language])
    assert answer.body == f"Hello from {LANGUAGES[language]}\n".encode()


def test_stream_says_hello(language, servers):
    answer = stream(servers, language).ask("/hello")
    assert (answer.status, answer.body) == (200, f"Hello from {LANGUAGES[language]}\n".encode())


@pytest.mark.parametrize("size", (0, 1, 4096, len(BODY)))
def test_the_body_goes_through(language, size, servers):
    assert wagi(servers, language).ask("/cgi/cat", BODY[:size]).body == BODY[:size]
    answer = stream(servers, language).ask("/cat", BODY[:size])
    assert (answer.status, answer.body) == (200, BODY[:size])


def test_a_chunked_body_goes_through(language, servers):
    answer = wagi(servers, language).ask("/cgi/cat", iter([BODY[:10], BODY[10:]]))
    assert (answer.status, answer.body) == (200, BODY)


@pytest.mark.parametrize("mode", (wagi, stream))
def test_both_families_of_names(mode, language, servers):
    path = "/cgi/env" if mode is wagi else "/x/env"
    found = variables(mode(servers, language).ask(f"{path}?a=b&c=d", fields={"X-One-Two": "3", "Host": "example.org"}))
    assert found["REQUEST_METHOD"] == found["Http_Method"] == "GET"
    assert found["QUERY_STRING"] == found["Http_Query"] == "a=b&c=d"
    assert found["PATH_INFO"] == found["Http_Path"] == path
    assert found["HTTP_X_ONE_TWO"] == "3" and found["Http_X_One_Two"] == "3"
    assert found["GATEWAY_INTERFACE"] == "CGI/1.1" and found["REMOTE_ADDR"] == "127.0.0.1"


def test_wagi_gives_the_path_and_the_query_as_arguments(servers):
    lines = wagi(servers, "function-c").ask("/cgi/env?a=b&c").body.decode().splitlines()
    assert [line for line in lines if line.startswith("arg ")] == ["arg 0 /cgi/env", "arg 1 a=b", "arg 2 c"]


@pytest.mark.parametrize("what", ("exit", "trap"))
def test_an_end_that_is_not_well(what, language, servers):
    assert wagi(servers, language).ask(f"/cgi/{what}").status in (500, 502)
    assert stream(servers, language).ask(f"/{what}").status == 500
    assert wagi(servers, language).ask("/cgi/hello").status == 200


@pytest.mark.parametrize("what", ("exit-after", "trap-after"))
def test_half_an_answer_is_never_whole(what, servers):
    for mode in (wagi, stream):
        answer = mode(servers, "function-c").ask(f"/cgi/{what}")
        assert not answer.whole or answer.status in (500, 502), answer


@pytest.mark.parametrize("what", ("bad-header", "no-header", "no-type", "no-output", "unfinished", "bare-cr",
                                  "bad-status"))
def test_a_bad_head_is_a_bad_gateway(what, servers):
    answer = wagi(servers, "function-c").ask(f"/cgi/{what}")
    assert (answer.status, answer["x-bad"]) == (502, None), answer


def test_fields_of_the_connection_stay_ours(servers):
    answer = wagi(servers, "function-c").ask("/cgi/forbidden")
    assert answer.status == 502 or (answer.status == 200 and answer.body == b"body\n")
    assert wagi(servers, "function-c").ask("/cgi/hello").status == 200


def test_good_heads(servers):
    server = wagi(servers, "function-c")
    answer = server.ask("/cgi/status")
    assert (answer.status, answer.body) == (404, b"body\n")
    answer = server.ask("/cgi/redirect")
    assert (answer.status, answer["location"]) == (302, "/elsewhere")
    answer = server.ask("/cgi/crlf")
    assert [value for name, value in answer.fields if name.lower() == "x-two"] == ["a", "b"]
    answer = server.ask("/cgi/length")
    assert (answer["content-length"], answer.body) == ("5", b"body\n")


@pytest.mark.parametrize("what", ("short-length", "long-length"))
def test_a_length_that_lies_breaks_the_answer(what, servers):
    answer = wagi(servers, "function-c").ask(f"/cgi/{what}")
    assert not answer.whole or answer.status == 502 or (what == "long-length" and answer.body == b"bo"), answer


def test_large_and_slow_output(servers):
    for mode, path in ((wagi, "/cgi/big"), (stream, "/big")):
        answer = mode(servers, "function-c").ask(f"{path}?bytes=5000000")
        assert answer.whole and answer.body == bytes(i % 251 for i in range(5_000_000))
        assert mode(servers, "function-c").ask(path.replace("big", "slow")).body == b"0\n1\n2\n"


def test_deadline(servers):
    for mode in (wagi, stream):
        server = mode(servers, "function-c", "--timeout", "1s")
        assert server.ask("/cgi/loop").status == 504
        assert server.ask("/cgi/sleep?ms=5000").status == 504
        assert server.ask("/cgi/hello").status == 200


def test_memory_has_an_end(servers):
    server = wagi(servers, "function-c", "--memory", "32Mi")
    assert server.ask("/cgi/alloc").body == b"refused\n"
    assert server.ask("/cgi/hello").status == 200


def test_requests_that_wait_for_a_place_are_answered(servers):
    server = wagi(servers, "function-c", "--concurrency", "1")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.ask("/cgi/sleep?ms=20").status))
               for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 20
