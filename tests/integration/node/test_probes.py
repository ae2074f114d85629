# SPDX-License-Identifier: Apache-2.0
"""Probes of a running agent: readiness is the pod's condition, what is not alive is started again."""
import http.server
import json
import threading

import pytest

import guest_sources as src
from common import manifest, wait_for


class Target:
    """What is probed: a server of the test's own on the loopback, whose answer the test chooses."""

    def __init__(self):
        target = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                target.requests.append((self.path, dict(self.headers)))
                self.send_response(target.status)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.status = 200
        self.requests = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def target():
    t = Target()
    yield t
    t.stop()


def condition(node, name, kind):
    conditions = (node.pod(name) or {}).get("status", {}).get("conditions", [])
    return next((c["status"] for c in conditions if c["type"] == kind), None)


def events(node, name):
    result = node.cli("describe", "default", name)
    return result.stdout if result.returncode == 0 else node.cli("describe", name).stdout


def http_get(target, **extra):
    return {"httpGet": {"host": "127.0.0.1", "port": target.port, "path": "/healthy?x=1",
                        "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}, "periodSeconds": 1, **extra}


def test_readiness_drives_the_condition(node, guests, target):
    target.status = 503
    node.start()
    node.apply("p.yaml", manifest("p", guests("graceful", src.GRACEFUL), container={
        "args": ["1000"], "readinessProbe": http_get(target, failureThreshold=1)}))
    wait_for(lambda: node.phase("p") == "Running" and len(target.requests) >= 2, what="runs, is probed")
    assert condition(node, "p", "Ready") == "False"
    assert node.container("p")["ready"] is False
    assert node.container("p")["started"] is True
    path, headers = target.requests[0]
    assert path == "/healthy?x=1"
    assert headers["X-Probe"] == "yes"
    assert headers["User-Agent"].startswith("kube-probe/")
    target.status = 302
    wait_for(lambda: condition(node, "p", "Ready") == "True", what="ready")
    target.status = 500
    wait_for(lambda: condition(node, "p", "Ready") == "False", what="not ready again")
    assert node.container("p")["restartCount"] == 0
    assert "Readiness probe failed: HTTP probe failed with statuscode: 500" in events(node, "p")


def test_a_ready_pod_stays_ready_over_a_restart_of_the_agent(node, guests, target):
    node.start()
    node.apply("p.yaml", manifest("p", guests("graceful", src.GRACEFUL), container={
        "args": ["1000"], "readinessProbe": http_get(target)}))
    wait_for(lambda: condition(node, "p", "Ready") == "True", what="ready")
    since = next(c for c in node.pod("p")["status"]["conditions"] if c["type"] == "Ready")["lastTransitionTime"]
    node.kill()
    before = len(target.requests)
    node.start()
    wait_for(lambda: len(target.requests) > before, what="probed by the new agent")
    ready = next(c for c in node.pod("p")["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["lastTransitionTime"]) == ("True", since)


def test_liveness_restarts(node, guests, target):
    node.start()
    node.apply("p.yaml", manifest("p", guests("graceful", src.GRACEFUL), container={
        "args": ["1000"], "livenessProbe": http_get(target, failureThreshold=2)}))
    wait_for(lambda: condition(node, "p", "Ready") == "True" and len(target.requests) > 1, what="ready and alive")
    target.status = 500
    wait_for(lambda: node.container("p").get("restartCount") == 1, 30, "restarted")
    target.status = 200
    wait_for(lambda: condition(node, "p", "Ready") == "True", what="ready again")
    text = events(node, "p")
    assert "Liveness probe failed: HTTP probe failed with statuscode: 500" in text
    assert "Container c failed liveness probe, will be restarted" in text


def test_tcp_and_startup(node, guests, target):
    node.start()
    target.stop()
    node.apply("p.yaml", manifest("p", guests("graceful", src.GRACEFUL), container={
        "args": ["1000"],
        "startupProbe": {"tcpSocket": {"host": "127.0.0.1", "port": target.port}, "periodSeconds": 1, "failureThreshold": 100},
        "livenessProbe": {"httpGet": {"host": "127.0.0.1", "port": target.port}, "failureThreshold": 1}}))
    wait_for(lambda: "Startup probe failed" in events(node, "p"), what="startup fails")
    assert node.container("p")["started"] is False
    assert condition(node, "p", "Ready") == "False"
    assert "Liveness" not in events(node, "p")
    again = http.server.ThreadingHTTPServer(("127.0.0.1", target.port), http.server.SimpleHTTPRequestHandler)
    try:
        wait_for(lambda: node.container("p")["started"], what="started")
        assert condition(node, "p", "Ready") == "True"
    finally:
        again.server_close()


def test_exec_is_a_remark(node, guests):
    node.start()
    node.apply("p.yaml", manifest("p", guests("graceful", src.GRACEFUL), container={
        "args": ["1000"], "readinessProbe": {"exec": {"command": ["true"]}}}))
    wait_for(lambda: condition(node, "p", "Ready") == "True", what="ready all the same")
    assert "no second process" in events(node, "p")


def test_silence_is_a_failure(node, guests):
    """A listener that never answers: the timeout counts, and nothing of the probe stays open."""
    import socket
    quiet = socket.create_server(("127.0.0.1", 0))
    node.start()
    node.apply("p.yaml", manifest("p", guests("graceful", src.GRACEFUL), container={
        "args": ["1000"], "readinessProbe": {"httpGet": {"host": "127.0.0.1", "port": quiet.getsockname()[1]},
                                             "periodSeconds": 1, "timeoutSeconds": 1}}))
    wait_for(lambda: "no answer within 1s" in events(node, "p"), what="times out")
    assert condition(node, "p", "Ready") == "False"
    quiet.close()
    assert json.dumps(node.pod("p"))
