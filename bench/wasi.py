#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same guest on our WASI and on Wasmtime's own (the wheel): each kind of work, timed by the guest's clock.

Prints one JSON line per kind; the smallest of many short rounds in alternating runs counts. The files are in memory,
so that calls are measured and not the disk. Exits with 77 when the peer cannot be had.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "guests" / "wasi"))
import compare  # noqa: E402  (finds the wheel)

GOAL = 1.0


def measure(command: list[str], wasm: pathlib.Path, rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        done = subprocess.run([*command, "--dir", f"{folder}::/", str(wasm), str(rounds)], text=True, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=600)
    return {name: float(ms) for name, ms in (line.split() for line in done.stdout.splitlines())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    a = parser.parse_args()
    build = pathlib.Path(os.environ.get("BENCH_DIR") or HERE.parent / "build" / "default" / "bench").parent
    runner = build / "tests" / "guests" / "wasi" / "wasi-run"
    try:
        peer = [compare.peer_python(), str(HERE.parent / "tests" / "guests" / "wasi" / "peer.py")]
    except compare.Skip as why:
        print(f"wasi: {why}", file=sys.stderr)
        return 77
    ours_best: dict[str, float] = {}
    peer_best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        wasm = pathlib.Path(folder) / "guest.wasm"
        subprocess.run(["clang", "--target=wasm32-wasi", "-O2", "-o", str(wasm), str(HERE / "wasi" / "guest.c")],
                       check=True)
        for _ in range(3 if a.quick else 5):
            for command, best in (([str(runner)], ours_best), (peer, peer_best)):
                for name, ms in measure(command, wasm, 10 if a.quick else 40).items():
                    best[name] = min(ms, best.get(name, ms))
    for name, ms in ours_best.items():
        other = peer_best[name]
        print(json.dumps({"name": name, "value": round(ms, 4), "unit": "ms", "peer": "wasmtime 48.0.0 wasi",
                          "peer_value": round(other, 4), "ratio": round(ms / other, 3), "goal": GOAL}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
