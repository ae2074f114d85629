# SPDX-License-Identifier: Apache-2.0
"""Pods that serve HTTP, with the real runner: what the image is decides how."""
import json
import os
import shutil
import tempfile
import time
import urllib.error

import pytest

import guest_sources as src
from common import BIN, Node, wait_for
from test_dormant import free_port, get, is_dormant, metric, pod, ready

CGI = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
    const char *path = getenv("PATH_INFO"), *method = getenv("REQUEST_METHOD");
    if (path != NULL && strcmp(path, "/trap") == 0)
        __builtin_trap();
    if (path != NULL && strcmp(path, "/three") == 0)
        return 3;
    printf("Content-Type: text/plain\n\n%s %s GREETING=%s", method, path, getenv("GREETING"));
    return 0;
}
"""
CAT = r"""
#include <unistd.h>
int main(void)
{
    char b[4096];
    ssize_t n;
    while ((n = read(0, b, sizeof b)) > 0)
        write(1, b, (size_t)n);
    return 0;
}
"""


@pytest.fixture
def serving():
    folder = tempfile.mkdtemp(prefix="wherry-node-")
    os.chmod(folder, 0o755)
    n = Node(folder)
    n.extra = ["--network", "host", "--node-ip", "127.0.0.1"]
    yield n.start()
    n.stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_command_serves_by_annotation(serving, guests):
    port = free_port()
    serving.apply("cgi.yaml", pod("cgi", guests("cgi", CGI), port, env=[{"name": "GREETING", "value": "hi"}]))
    wait_for(lambda: ready(serving, "cgi"), what="ready")
    assert get(port, "/a/b") == "GET /a/b GREETING=hi"
    for path in ["/three", "/trap"]:
        with pytest.raises(urllib.error.HTTPError) as error:
            get(port, path)
        assert error.value.code >= 500
    assert get(port, "/still") == "GET /still GREETING=hi"
    assert serving.container("cgi")["restartCount"] == 0


def test_a_command_goes_dormant_and_wakes(serving, guests):
    port = free_port()
    serving.apply("cgi.yaml", pod("cgi", guests("cgi", CGI), port, {"wherry.dev/idle": "1s"}))
    wait_for(lambda: is_dormant(serving, "cgi"), what="dormant")
    begun = time.monotonic()
    assert get(port, "/woken").startswith("GET /woken")
    assert time.monotonic() - begun < 2
    wait_for(lambda: metric(serving, "wherry_wakes_total") == 1, what="counted")
    wait_for(lambda: is_dormant(serving, "cgi"), what="dormant again")
    serving.kill()
    assert get(port, "/alone").startswith("GET /alone")
    serving.start()
    assert serving.container("cgi")["restartCount"] == 0
    (serving.manifests / "cgi.yaml").unlink()
    wait_for(lambda: serving.pod("cgi") is None, what="deleted")


def test_a_stop_lets_what_serves_end_well(serving, guests):
    port = free_port()
    serving.apply("cgi.yaml", pod("cgi", guests("cgi", CGI), port))
    wait_for(lambda: ready(serving, "cgi"), what="ready")
    assert get(port, "/x")
    begun = time.monotonic()
    serving.cli("stop", "cgi")
    wait_for(lambda: serving.pod("cgi") is None or serving.phase("cgi") in ("Succeeded", "Failed"), what="ended")
    assert time.monotonic() - begun < 5


def test_stream_sends_the_body_through(serving, guests):
    import urllib.request
    port = free_port()
    serving.apply("cat.yaml", pod("cat", guests("catstream", CAT), port, {"wherry.dev/serve": "stream"}))
    wait_for(lambda: ready(serving, "cat"), what="ready")
    body = os.urandom(100_000)
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/", data=body), timeout=20) as answer:
        assert answer.read() == body
