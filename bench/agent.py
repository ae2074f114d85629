#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the agent itself costs: its memory with 0, 100 and 500 sleeping pods of a manifest folder, its CPU with 100 of
them, how long a container takes from the agent's decision to the guest's first instruction; then, as a node of a real
control plane (tests/cluster/cmd/bench), how fast it is Ready and how fast a deployment of 500 is."""
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("BENCH_DIR") or ROOT / "build" / "default" / "bench").parent
os.environ.setdefault("WHERRY_BIN", str(BUILD / "bin"))
sys.path.insert(0, str(ROOT / "tests" / "integration"))
from common import Node, manifest, wait_for  # noqa: E402  (finds the programs by WHERRY_BIN)

QUICK = "--quick" in sys.argv
STEPS = (0, 20, 50) if QUICK else (0, 100, 500)
IDLE_S = 5 if QUICK else 20
STARTS = 20 if QUICK else 200
GOALS = {100: 30.0}


def report(name, value, unit, goal=None):
    result = {"name": name, "value": round(value, 3), "unit": unit}
    if goal is not None:
        result["goal"] = goal
    print(json.dumps(result), flush=True)


def resident_kib(pid):
    for line in open(f"/proc/{pid}/status", encoding="ascii"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def proportional_kib(pid):
    """Pages that it shares with others count in part."""
    for line in open(f"/proc/{pid}/smaps_rollup", encoding="ascii"):
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def cpu_s(pid):
    """CPU of a process; the scheduler's own count in nanoseconds, of all its threads."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return total / 1e9


def metrics(node):
    """The agent's /metrics over its local socket, as {series: value}."""
    connection = http.client.HTTPConnection("wherry")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(node.run_dir / "wherry.sock"))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.M)}


def starts(node):
    """How many containers were started, and the seconds that they took together."""
    all_ = metrics(node)
    name = "wherry_container_start_seconds"
    return all_.get(f"{name}_count", 0), all_.get(f"{name}_sum", 0)


def memory_and_cpu(node, image):
    pid = node.process.pid
    have = 0
    for pods in STEPS:
        for i in range(have, pods):
            node.apply(f"p{i}.yaml", manifest(f"p{i}", image))
        have = pods
        wait_for(lambda: starts(node)[0] >= have, 300, f"{pods} pods run")
        time.sleep(3)
        if pods == 0:
            report("agent_kib", proportional_kib(pid), "KiB")
        report(f"agent_rss_{pods}_mib", resident_kib(pid) / 1024, "MiB", GOALS.get(pods))
        if pods == STEPS[1]:
            before, began = cpu_s(pid), time.monotonic()
            time.sleep(IDLE_S)
            used = (cpu_s(pid) - before) / (time.monotonic() - began)
            report("agent_idle_cpu_pct", 100 * used, "%", 2)


def start_time(node, image):
    """One after the other, so that no start waits for another; the image is there and compiled."""
    took = []
    for i in range(STARTS):
        count, total = starts(node)
        node.apply("one.yaml", manifest(f"one-{i}", image))
        wait_for(lambda before=count: starts(node)[0] > before, 30, "the pod runs")
        took.append((starts(node)[1] - total) * 1e3)
    took.sort()
    report("agent_start_p50_ms", took[len(took) // 2], "ms")
    report("agent_start_p99_ms", took[len(took) * 99 // 100], "ms")


def remove_groups(name):
    """The control groups that the agent made, empty by now, in each hierarchy."""
    for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, own = line.split(":", 2)
        top = pathlib.Path("/sys/fs/cgroup") / controllers / own.lstrip("/") / name
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError as e:
                print(f"agent: {e}", file=sys.stderr)


def single_machine():
    image = BUILD / "bench" / "sleeper.wasm"
    with tempfile.TemporaryDirectory(prefix="wh-bench-") as folder:
        os.chmod(folder, 0o755)
        node = Node(folder)
        group = f"wherry-bench-{os.getpid()}"
        node.extra = ["--max-pods", "1000", "--log-level", "warn", "--cgroup", group]
        node.start()
        try:
            start_time(node, image)
            node.apply("one.yaml", "")
            (node.manifests / "one.yaml").unlink()
            wait_for(lambda: not node.pods(), 60, "the pod ends")
            memory_and_cpu(node, image)
        finally:
            if node.process.poll() is not None:
                print(node.agent_log()[-2000:], file=sys.stderr)
            node.stop()
            remove_groups(group)


def cluster():
    """Exit code of the part with a control plane; 77 when there is none."""
    folder = ROOT / "tests" / "cluster"
    built = subprocess.run([str(folder / "build"), "hyperkube"], stdout=sys.stderr, check=False)
    if built.returncode != 0:
        print("agent: the control plane could not be built from its Go modules", file=sys.stderr)
        return 77
    with tempfile.TemporaryDirectory() as out:
        program = f"{out}/bench"
        subprocess.run(["go", "build", "-o", program, "./cmd/bench"], cwd=folder, check=True)
        few = ["-replicas=50", "-rounds=3"] if QUICK else []
        return subprocess.run([program, f"-module={BUILD / 'bench' / 'sleeper.wasm'}", *few], cwd=folder,
                              check=False).returncode


def main():
    if os.getuid() != 0:
        print("agent: needs root, for pods with a uid and a control group of their own", file=sys.stderr)
        return 77
    single_machine()
    return cluster()


if __name__ == "__main__":
    sys.exit(main())
