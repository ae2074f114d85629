# SPDX-License-Identifier: Apache-2.0
"""A node of one's own for the benchmarks of serving: pods from manifests, counted in a control group of their own."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator

import serving

os.environ.setdefault("WHERRY_BIN", str(serving.build_folder() / "bin"))
sys.path.insert(0, str(serving.ROOT / "tests" / "integration"))
from common import Node, wait_for  # noqa: E402  (finds the programs by WHERRY_BIN)

PORT = 20000  # and those behind it: pods may share the node's address


Address = tuple[str, int]


def manifest(name: str, image: str, port: int, **annotations: str) -> str:
    """A pod of one container that serves."""
    notes = {f"wherry.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    container = {"name": "c", "image": image, "ports": [{"containerPort": port}]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": notes},
                       "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}})


def group_used(folder: pathlib.Path) -> int:
    """Bytes of a memory group without page cache, kernel memory included; both hierarchies."""
    stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    v1 = folder / "memory.usage_in_bytes"
    if v1.exists():
        return int(v1.read_text()) - int(stat["total_cache"]) + int(stat.get("total_shmem", 0))
    return int((folder / "memory.current").read_text()) - int(stat["file"]) + int(stat["shmem"])


def memory_group() -> pathlib.Path:
    """Our own group of the hierarchy that counts memory."""
    own = dict(line.strip().split(":", 2)[1:] for line in open("/proc/self/cgroup", encoding="ascii"))
    v1 = pathlib.Path("/sys/fs/cgroup/memory" + own.get("memory", "/"))
    return v1 if (v1 / "memory.usage_in_bytes").exists() else pathlib.Path("/sys/fs/cgroup" + own.get("", "/"))


class Machine:
    def __init__(self, node: Node, group: str):
        self.node, self.group = node, memory_group() / group

    def metrics(self) -> dict[str, float]:
        connection = http.client.HTTPConnection("wherry")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.node.run_dir / "wherry.sock"))
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.M)}

    def addresses(self) -> dict[str, Address]:
        """Of the pods that are ready."""
        found = {}
        for name, pod in self.node.pods().items():
            status = pod.get("status", {})
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
            if ready and status.get("podIP"):
                found[name] = (status["podIP"], PORT + int(name[1:]))
        return found

    def serve(self, n: int, image: str, seconds: float = 300, **annotations: str) -> dict[str, Address]:
        """n pods; their addresses once all are ready."""
        for i in range(n):
            self.node.apply(f"p{i}.yaml", manifest(f"p{i}", image, PORT + i, **annotations))
        return wait_for(lambda: len(found := self.addresses()) >= n and found, seconds, f"{n} pods are ready")

    def clear(self) -> None:
        for file in list(self.node.manifests.iterdir()):
            file.unlink()
        wait_for(lambda: not self.node.pods(), 120, "the pods end")


def ask(address: Address, path: str = "/", timeout: float = 20) -> float:
    """Seconds from the connection's beginning to the end of an answer of 200."""
    began = time.perf_counter()
    with socket.create_connection(address, timeout=timeout) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while piece := s.recv(65536):
            data += piece
    took = time.perf_counter() - began
    if not data.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"{address} answered {data[:200]!r}")
    return took


@contextlib.contextmanager
def machine(*options: str) -> Iterator[Machine]:
    if os.geteuid() != 0:
        raise serving.Skip("needs root, for control groups and the pods' network")
    folder = tempfile.mkdtemp(prefix="wherry-bench-")
    os.chmod(folder, 0o755)
    group = f"wherry-bench-{os.getpid()}"
    node = Node(folder)
    node.extra = ["--log-level", "warn", "--cgroup", group, *options]
    try:
        node.start()
        try:
            yield Machine(node, group)
        except BaseException:
            print(node.agent_log()[-3000:], file=sys.stderr)
            raise
        finally:
            node.stop()
            remove_groups(group)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_groups(name: str) -> None:
    """The control groups that the agent made, empty by now, in each hierarchy."""
    for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, own = line.split(":", 2)
        top = pathlib.Path("/sys/fs/cgroup") / controllers.removeprefix("name=") / own.lstrip("/") / name
        for at, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(at)
