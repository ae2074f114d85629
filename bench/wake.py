#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The first request to a dormant pod, from the connection's beginning to the end of the answer: several pods of the
smallest component, one woken after the other, until each is dormant again. The same request to the woken pod beside
it."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
import machine  # noqa: E402
import serving  # noqa: E402

QUICK = "--quick" in sys.argv
PODS, ROUNDS = (5, 2) if QUICK else (20, 15)


def measure(version: str) -> None:
    image = serving.guest(f"hello-{version}")
    woken, awake = [], []
    with machine.machine("--network", "host") as m:
        addresses = m.serve(PODS, image, idle="1s")
        for _ in range(ROUNDS):
            machine.wait_for(lambda: m.metrics().get("wherry_pods_dormant", 0) >= PODS, 60, "all are dormant")
            for address in addresses.values():
                woken.append(machine.ask(address) * 1e3)
                awake.append(machine.ask(address) * 1e3)
    woken.sort()
    awake.sort()
    name = "wake" if version == "p2" else f"wake_{version}"
    serving.report(f"{name}_p50_ms", woken[len(woken) // 2], "ms", goal=3, wakes=len(woken),
                   awake_p50_ms=round(awake[len(awake) // 2], 3))
    serving.report(f"{name}_p99_ms", woken[len(woken) * 99 // 100], "ms", goal=10)


with serving.skips("wake"):
    measure("p2")
    if not QUICK:
        measure("p3")
