# SPDX-License-Identifier: Apache-2.0
"""The shared pod network with real programs: an agent on a machine of its own (network and mounts), pods that serve."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from common import WHERRY, Node, wait_for

SERVER = r"""
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    printf("Content-Type: text/plain\n\n%s from %s", getenv("NAME"), getenv("REMOTE_ADDR"));
    return 0;
}
"""


class Machine:
    """Namespaces that last as long as a process that sleeps in them."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["unshare", "-mn", "sh", "-c", "mount --make-rprivate / && ip link set lo up && echo up && exec sleep 600"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if self.process.stdout.readline() != "up\n":
            self.process.wait()
            pytest.skip("network and mount namespaces need root")
        self.prefix = ["nsenter", "-t", str(self.process.pid), "-m", "-n"]

    def run(self, *command):
        return subprocess.run([*self.prefix, *command], capture_output=True, text=True, timeout=30, check=False)

    def stop(self):
        self.process.kill()
        self.process.wait()


class MachineNode(Node):
    def __init__(self, folder, machine):
        super().__init__(folder)
        self.machine = machine

    def start(self):
        self.process = subprocess.Popen(
            [*self.machine.prefix, WHERRY, "node", "--manifests", self.manifests, "--root", self.state, "--run-dir",
             self.run_dir, "--name", "test", "--log-format", "text", "--network", "shared", "--pod-cidr",
             "10.88.0.0/16", "--pod-cidr", "fd00:88::/64", "--node-ip", "127.0.0.1"], stdout=self.log, stderr=self.log)
        wait_for(lambda: self.cli("ps").returncode == 0 or self.process.poll() is not None, what="agent answers")
        assert self.process.poll() is None, self.agent_log()
        return self


@pytest.fixture
def node():
    if os.geteuid() != 0:
        pytest.skip("the shared network needs root")
    folder = tempfile.mkdtemp(prefix="wherry-node-")
    os.chmod(folder, 0o755)
    machine = Machine()
    n = MachineNode(folder, machine)
    yield n.start()
    n.stop()
    machine.stop()
    shutil.rmtree(folder, ignore_errors=True)


def pod(name, image, **annotations):
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": {
        "wherry.dev/serve": "wagi", **annotations}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "c", "image": str(image), "ports": [{"containerPort": 80}],
             "env": [{"name": "NAME", "value": name}]}]}})


def ips(node, name):
    status = (node.pod(name) or {}).get("status", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    return [entry["ip"] for entry in status.get("podIPs", [])] if ready else None


def get(node, ip):
    host = f"[{ip}]" if ":" in ip else ip
    return node.machine.run("python3", "-c", "import sys, urllib.request as u;"
                            "print(u.urlopen(sys.argv[1], timeout=10).read().decode())", f"http://{host}/").stdout.strip()


def test_two_pods_on_one_port_and_a_later_agent(node, guests):
    image = guests("who", SERVER)
    for name in ["a", "b"]:
        node.apply(f"{name}.yaml", pod(name, image))
    a = wait_for(lambda: ips(node, "a"), what="a is ready: " + node.agent_log()[-1000:])
    b = wait_for(lambda: ips(node, "b"), what="b is ready")
    assert len(a) == len(b) == 2 and not set(a) & set(b)
    assert get(node, a[0]).startswith("a from 169.254.7.1")
    for address in b:
        assert get(node, address).startswith("b from ")
    # Neither port is the node's.
    assert node.machine.run("sh", "-c", "ss -ltn | grep -c ':80 '").stdout.strip() == "0"
    node.kill()
    assert get(node, a[0]).startswith("a from ")
    node.start()
    assert wait_for(lambda: ips(node, "a"), what="a is still there") == a
    assert get(node, b[1]).startswith("b from ")
    (node.manifests / "a.yaml").unlink()
    wait_for(lambda: node.pod("a") is None, what="a ends")
    netns = pathlib.Path(node.run_dir) / "network" / "netns"
    routes = node.machine.run("nsenter", f"--net={netns}", "ip", "route", "show", "table", "local", "proto", "119").stdout
    assert a[0] not in routes and b[0] in routes


def test_netd_is_killed_and_pods_serve_on(node, guests):
    node.apply("a.yaml", pod("a", guests("who", SERVER)))
    a = wait_for(lambda: ips(node, "a"), what="a is ready")
    assert get(node, a[0]).startswith("a from ")
    children = pathlib.Path("/proc").glob("[0-9]*/comm")
    ours = [int(c.parent.name) for c in children if read(c) == "wherry-netd" and parent(c) == agent_pid(node)]
    assert len(ours) == 1
    os.kill(ours[0], 9)
    assert get(node, a[0]).startswith("a from ")
    wait_for(lambda: "netd was started again" in node.agent_log(), what="started again")
    node.apply("b.yaml", pod("b", guests("who", SERVER)))
    b = wait_for(lambda: ips(node, "b"), what="b is ready")
    assert get(node, b[0]).startswith("b from ")


def read(path):
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def parent(comm):
    stat = read(comm.parent / "stat")
    return int(stat.rsplit(")", 1)[1].split()[1]) if stat else 0


def agent_pid(node):
    return node.process.pid  # nsenter executes the agent
