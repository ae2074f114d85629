#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What pods that serve cost while nobody calls: idle components, dormant ones, in memory groups, kernel memory
included and page cache left out; then how many fit: 5,000 running core pods and 10,000 dormant ones, each of which
answers."""
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
import machine  # noqa: E402
import serving  # noqa: E402

QUICK = "--quick" in sys.argv
IDLE, DORMANT = (10, 20) if QUICK else (50, 500)
RUNNING, MANY_DORMANT = (50, 100) if QUICK else (5000, 10000)


def dormant(m: machine.Machine, n: int, seconds: float) -> None:
    machine.wait_for(lambda: m.metrics().get("wherry_pods_dormant", 0) >= n, seconds, f"{n} are dormant")


def idle_component() -> None:
    with machine.machine("--network", "host") as m:
        addresses = m.serve(IDLE, serving.guest("hello-p2"))
        for address in addresses.values():
            machine.ask(address)
        time.sleep(3)
        serving.report("http_pod_kib", machine.group_used(m.group) / IDLE / 1024, "KiB", goal=1.2 * 1024)


def dormant_pod() -> None:
    """The keeper in a group of its own from its beginning: what each pod makes it and the kernel keep."""
    group = machine.memory_group() / f"wherry-keeper-{os.getpid()}"
    with machine.machine("--network", "host", "--max-pods", "2000") as m:
        group.mkdir()
        try:
            keeper = m.node.keeper_pid()
            (group / "cgroup.procs").write_text(str(keeper))
            m.serve(10, serving.guest("hello-p2"), idle="1s")
            dormant(m, 10, 60)
            time.sleep(2)
            before = machine.group_used(group) + machine.group_used(m.group)
            m.serve(10 + DORMANT, serving.guest("hello-p2"), idle="1s")
            dormant(m, 10 + DORMANT, 300)
            time.sleep(2)
            after = machine.group_used(group) + machine.group_used(m.group)
            serving.report("dormant_pod_kib", (after - before) / DORMANT / 1024, "KiB", goal=8,
                           keeper_rss_kib=serving.memory_kib([keeper], "VmRSS"))
        finally:
            m.node.stop()
            for _ in range(100):
                try:
                    group.rmdir()
                    break
                except OSError:
                    time.sleep(0.05)


def many() -> None:
    with machine.machine("--network", "host", "--max-pods", "20000") as m:
        began = time.monotonic()
        addresses = m.serve(RUNNING, serving.guest("hello-c"), 1800, serve="wagi")
        took = time.monotonic() - began
        for address in addresses.values():
            machine.ask(address)
        serving.report("running_pods", len(addresses), "pods", goal=RUNNING, seconds=round(took, 1),
                       mib=round(machine.group_used(m.group) / 2**20))
        m.clear()
        began = time.monotonic()
        addresses = m.serve(MANY_DORMANT, serving.guest("hello-c"), 3600, serve="wagi", idle="1s")
        dormant(m, MANY_DORMANT, 600)
        took = time.monotonic() - began
        for address in addresses.values():
            machine.ask(address)
        serving.report("dormant_pods", len(addresses), "pods", goal=MANY_DORMANT, seconds=round(took, 1))


with serving.skips("density"):
    idle_component()
    dormant_pod()
    many()
