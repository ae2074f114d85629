# SPDX-License-Identifier: Apache-2.0
"""From zero: pods that serve, go dormant, and wake; with a runner of a few lines, so that only the node is tested."""
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import pytest

import guest_sources as src
from common import BIN, Node, wait_for

HERE = pathlib.Path(__file__).resolve().parent
HERD = 1000


@pytest.fixture(scope="session")
def libexec():
    """The programs of the build, but with the runner of the tests."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="wherry-libexec-"))
    folder.chmod(0o755)
    for program in ["wherry-keeper", "wherry-prepare", "wherry-netd"]:
        (folder / program).symlink_to((BIN / program).resolve())
    subprocess.run(["cc", "-O1", "-static", "-o", folder / "wherry-runner", HERE / "serving_runner.c"], check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def serving(libexec, monkeypatch):
    monkeypatch.setenv("WHERRY_LIBEXEC", str(libexec))
    folder = tempfile.mkdtemp(prefix="wherry-node-")
    os.chmod(folder, 0o755)
    n = Node(folder)
    n.extra = ["--network", "host", "--node-ip", "127.0.0.1"]
    yield n.start()
    n.stop()
    shutil.rmtree(folder, ignore_errors=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def pod(name, image, port, annotations=None, **container):
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": {
        "wherry.dev/serve": "wagi", **(annotations or {})}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "c", "image": str(image), "ports": [{"containerPort": port}], **container}]}})


def get(port, path="/id", timeout=20):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
        return answer.read().decode()


def is_dormant(node, name):
    entries = json.loads(node.cli("ps", "-o", "json").stdout)
    return any(e["pod"]["metadata"]["name"] == name and e.get("dormant", False) for e in entries)


def metric(node, name):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(node.run_dir / "wherry.sock"))
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b""
        while chunk := s.recv(65536):
            text += chunk
    line = next((x for x in text.decode().splitlines() if x.startswith(name + " ")), None)
    return float(line.split()[1]) if line else 0.0


def ready(node, name):
    conditions = (node.pod(name) or {}).get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def runners(node):
    """Pids of the processes of this node's containers."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "stat").read_text().split(") ")[1].split()[1] == str(node.keeper_pid()):
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return found


def start_dormant(node, guests, name="web", idle="1s", **kwargs):
    port = free_port()
    node.apply(f"{name}.yaml", pod(name, guests("exit", src.EXIT), port, {"wherry.dev/idle": idle, **kwargs}))
    wait_for(lambda: is_dormant(node, name), what="goes dormant")
    return port


def test_a_pod_serves_on_its_port(serving, guests):
    port = free_port()
    serving.apply("web.yaml", pod("web", guests("exit", src.EXIT), port))
    wait_for(lambda: ready(serving, "web"), what="ready")
    assert get(port, "/x") == "/x"
    status = serving.pod("web")["status"]
    assert status["podIP"] == "127.0.0.1"
    assert status["podIPs"] == [{"ip": "127.0.0.1"}]


def test_dormant_wakes_and_rests_again(serving, guests):
    port = start_dormant(serving, guests)
    assert runners(serving) == []
    assert serving.phase("web") == "Running"
    assert ready(serving, "web")
    assert "Dormant" in serving.cli("ps").stdout
    assert metric(serving, "wherry_pods_dormant") == 1
    first = get(port)
    assert get(port) == first
    wait_for(lambda: not is_dormant(serving, "web"), what="awake")
    assert metric(serving, "wherry_wakes_total") == 1
    wait_for(lambda: is_dormant(serving, "web"), what="dormant again")
    assert get(port) != first
    wait_for(lambda: metric(serving, "wherry_wakes_total") == 2, what="counted")
    assert serving.container("web")["restartCount"] == 0
    log = serving.cli("logs", "web").stdout
    assert log.count("/id") == 3


def test_a_dormant_pod_has_no_groups_and_gets_them_back(serving, guests):
    def groups():
        top = "/sys/fs/cgroup/memory" if os.path.isdir("/sys/fs/cgroup/memory") else "/sys/fs/cgroup"
        return [d for _, dirs, _ in os.walk(top) for d in dirs if f"pod{uid}" in d]

    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    port = free_port()
    serving.apply("web.yaml", pod("web", guests("exit", src.EXIT), port, {"wherry.dev/idle": "1s"},
                                  resources={"limits": {"memory": "64Mi"}}))
    wait_for(lambda: ready(serving, "web"), what="ready")
    uid = serving.pod("web")["metadata"]["uid"]
    assert len(groups()) == 1
    wait_for(lambda: is_dormant(serving, "web"), what="dormant")
    assert groups() == []
    serving.kill()
    get(port)
    assert len(groups()) == 1
    serving.start()


def test_a_herd_starts_one_runner(serving, guests):
    port = start_dormant(serving, guests)
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        ids = list(pool.map(lambda _: get(port, timeout=60), range(HERD)))
    assert len(set(ids)) == 1
    assert metric(serving, "wherry_wakes_total") == 1


def test_it_wakes_while_the_agent_is_away(serving, guests):
    port = start_dormant(serving, guests)
    serving.kill()
    first = get(port)
    assert get(port) == first
    serving.start()
    assert serving.phase("web") == "Running"
    assert serving.container("web")["restartCount"] == 0
    wait_for(lambda: is_dormant(serving, "web"), what="dormant under the new agent")
    assert get(port) != first
    # And what was dormant all the while is taken over as that.
    wait_for(lambda: is_dormant(serving, "web"), what="dormant again")
    serving.kill()
    serving.start()
    assert is_dormant(serving, "web")
    assert ready(serving, "web")
    assert get(port)


def test_a_killed_runner_loses_no_queued_connection(serving, guests):
    port = start_dormant(serving, guests)

    def hang():
        try:
            return get(port, "/hang")
        except (OSError, urllib.error.URLError):
            return "broken"
    with concurrent.futures.ThreadPoolExecutor(101) as pool:
        stuck = pool.submit(hang)
        victim = wait_for(lambda: runners(serving), what="woken")[0]
        time.sleep(0.3)
        queued = [pool.submit(get, port, "/id", 60) for _ in range(100)]
        time.sleep(0.3)
        assert not any(q.done() for q in queued)
        os.kill(victim, signal.SIGKILL)
        assert stuck.result(20) == "broken"
        assert len({q.result(60) for q in queued}) == 1
    wait_for(lambda: serving.container("web").get("restartCount") == 1, what="restart is counted")


def test_a_dormant_pod_is_deleted(serving, guests):
    port = start_dormant(serving, guests)
    (serving.manifests / "web.yaml").unlink()
    wait_for(lambda: serving.pod("web") is None, what="gone")
    with pytest.raises((ConnectionError, urllib.error.URLError)):
        get(port)
    # The port is free again.
    serving.apply("two.yaml", pod("two", guests("exit", src.EXIT), port))
    wait_for(lambda: ready(serving, "two"), what="ready")
    assert get(port, "/two") == "/two"


def test_a_killed_keeper_does_not_end_serving(serving, guests):
    port = start_dormant(serving, guests)
    os.kill(serving.keeper_pid(), signal.SIGKILL)
    wait_for(lambda: serving.container("web").get("restartCount", 0) >= 1, 30, "started again")
    wait_for(lambda: ready(serving, "web"), what="ready")
    assert wait_for(lambda: get(port), what="answers")


def test_a_taken_port_is_said(serving, guests):
    port = free_port()
    serving.apply("a.yaml", pod("a", guests("exit", src.EXIT), port))
    wait_for(lambda: ready(serving, "a"), what="ready")
    serving.apply("b.yaml", pod("b", guests("exit", src.EXIT), port))
    wait_for(lambda: f"port {port} of the host is in use by pod 'default/a'" in serving.cli("describe", "b").stdout,
             what="the conflict is an event")
    assert get(port, "/a") == "/a"
    (serving.manifests / "a.yaml").unlink()
    wait_for(lambda: ready(serving, "b"), 60, "b gets it")


def test_a_host_port_is_a_second_way_in(serving, guests):
    port, host_port = free_port(), free_port()
    serving.apply("web.yaml", pod("web", guests("exit", src.EXIT), port, {"wherry.dev/idle": "1s"},
                                  ports=[{"containerPort": port, "hostPort": host_port}]))
    wait_for(lambda: is_dormant(serving, "web"), what="dormant")
    assert get(host_port, "/in") == "/in"
    assert get(port) == get(host_port)
    serving.apply("other.yaml", pod("other", guests("exit", src.EXIT), free_port(), ports=[
        {"containerPort": free_port(), "hostPort": host_port}]))
    wait_for(lambda: f"port {host_port} of the host is in use by pod 'default/web'" in
             serving.cli("describe", "other").stdout, what="the conflict is an event")


def test_probes_see_what_serves(serving, guests):
    port = free_port()
    serving.apply("web.yaml", pod("web", guests("exit", src.EXIT), port, readinessProbe={
        "httpGet": {"path": "/fail", "port": port}, "periodSeconds": 1, "failureThreshold": 1}))
    wait_for(lambda: "statuscode: 500" in serving.cli("describe", "web").stdout, what="unhealthy")
    assert not ready(serving, "web")
    other = free_port()
    serving.apply("ok.yaml", pod("ok", guests("exit", src.EXIT), other, {"wherry.dev/idle": "2s"}, readinessProbe={
        "httpGet": {"path": "/ok", "port": other}, "periodSeconds": 1}))
    wait_for(lambda: ready(serving, "ok"), what="ready")
    wait_for(lambda: is_dormant(serving, "ok"), what="probes do not keep it awake")
    assert ready(serving, "ok")


def test_a_wrong_annotation_is_an_event(serving, guests):
    serving.apply("bad.yaml", pod("bad", guests("exit", src.EXIT), 80, {"wherry.dev/idle": "soon"}))
    wait_for(lambda: "wherry.dev/idle" in serving.agent_log(), what="said")
    assert "a duration from 1s to 24h" in serving.agent_log()
