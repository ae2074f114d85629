# SPDX-License-Identifier: Apache-2.0
"""Real clients: curl, h2load, wrk, Go's net/http; bodies both ways in memory that does not grow."""
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from server import CACHE, Server, need

HTTP = ["--http1.1", "--http2"]


def curl(server, path, *args, **kw):
    command = [need("curl"), "-sS", "-k", "--max-time", "60", *map(str, args), server.url + path]
    return subprocess.run(command, capture_output=True, check=False, **kw)


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_curl_plain(server, version):
    done = curl(server, "/head?a=b%20c", version)
    want = "11" if version == "--http1.1" else "20"
    assert done.stdout.decode() == f"GET http 127.0.0.1:{server.port} /head?a=b%20c {want} 0\n"
    assert curl(server, "/echo", version, "-d", "hello").stdout == b"hello"
    done = curl(server, "/trailers", version, "-v")
    assert b"x-sum: 14" in done.stderr.lower() or version == "--http1.1"  # curl shows no trailers of HTTP/1
    assert b" 103" in done.stderr
    assert curl(server, "/", version, "-I").stdout.lower().count(b"content-length: 14\r\n") == 1


@pytest.mark.parametrize("version", HTTP)
def test_curl_tls(tls_server, version):
    done = curl(tls_server, "/head", version)
    want = "11" if version == "--http1.1" else "20"
    assert done.stdout.decode() == f"GET https 127.0.0.1:{tls_server.port} /head {want} 0\n"
    for old in ("--tls-max", "1.2"), ("--tlsv1.3",):
        assert curl(tls_server, "/", version, *old).stdout == b"Hello, world!\n"
    assert curl(tls_server, "/", version, "--tls-max", "1.1").returncode != 0


@pytest.mark.parametrize("version", HTTP)
def test_a_short_answer_is_seen_as_broken(tls_server, version):
    assert curl(tls_server, "/short", version).returncode != 0


@pytest.mark.parametrize("version,tls", [("--http1.1", False), ("--http1.1", True), ("--http2-prior-knowledge", False),
                                         ("--http2", True)])
def test_large_bodies_in_constant_memory(tmp_path, version, tls):
    body = tmp_path / "body"
    body.write_bytes(os.urandom(1 << 20) * 64)
    with Server(*(["--tls"] if tls else [])) as server:
        assert curl(server, "/echo", version, "--data-binary", f"@{body}").stdout == body.read_bytes()
        before = server.rss_kib()
        done = curl(server, "/echo", version, "-T", body, "-H", "Transfer-Encoding: chunked" if "1.1" in version else "X: y",
                    "-H", "Expect: 100-continue")
        assert done.stdout == body.read_bytes()
        got = curl(server, "/bytes?100000000", version, "-o", "/dev/null", "-w", "%{size_download} %{http_code}")
        assert got.stdout == b"100000000 200"
        sent = curl(server, "/sink", version, "--data-binary", f"@{body}")
        assert sent.stdout == f"{64 << 20} bytes were read\n".encode()
        assert server.rss_kib() < before + 4096 or server.sanitized


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_a_slow_reader_holds_no_memory(server, version):
    before = server.rss_kib()
    process = subprocess.Popen([need("curl"), "-sS", version, "--limit-rate", "100k", "-o", "/dev/null", "--max-time", "2",
                                server.url + "/bytes?1000000000"], stderr=subprocess.DEVNULL)
    process.wait(timeout=10)
    assert server.rss_kib() < before + 2048 or server.sanitized


@pytest.mark.parametrize("args,tls", [(["--h1", "-c", "32"], False), (["-c", "16", "-m", "32"], False),
                                      (["-c", "16", "-m", "32"], True), (["--h1", "-c", "16"], True)])
@pytest.mark.parametrize("path", ["/", "/bytes?100000"])
def test_h2load(args, tls, path):
    with Server(*(["--tls"] if tls else [])) as server:
        done = subprocess.run([need("h2load"), "-n", "5000", *args, server.url + path], capture_output=True, text=True,
                              timeout=120, check=True)
    assert re.search(r"5000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout), done.stdout
    assert "status codes: 5000 2xx" in done.stdout


def test_wrk(server):
    done = subprocess.run([need("wrk"), "-t1", "-c64", "-d1s", server.url + "/"], capture_output=True, text=True, timeout=60,
                          check=True)
    assert "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout
    assert int(re.search(r"(\d+) requests in", done.stdout)[1]) > 100


GO = pathlib.Path(__file__).parent / "client.go"


@pytest.fixture(scope="session")
def go_client():
    path = os.environ["PATH"] + ":/usr/local/go/bin"
    if shutil.which("go", path=path) is None:
        pytest.skip("no go")
    out = CACHE / "tools" / f"http-client-{int(GO.stat().st_mtime)}"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-o", out, GO], env=dict(os.environ, PATH=path, GOFLAGS=""), check=True)
    return out


@pytest.mark.parametrize("tls", [False, True], ids=["http1", "http2"])
def test_go(go_client, tls):
    """Trailers both ways, a hundred requests at once, a full-duplex echo, a call that is given up."""
    with Server(*(["--tls"] if tls else [])) as server:
        done = subprocess.run([go_client, server.url], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"proto": "HTTP/2.0" if tls else "HTTP/1.1", "trailer": "14", "echo_trailer": "7",
                                           "parallel": 100, "echoed": 10 << 20, "given_up": True, "after": "Hello, world!\n"}
