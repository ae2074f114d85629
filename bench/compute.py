#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the program `compute`, then the same guest on Wasmtime as its makers ship it (the package `wasmtime` of PyPI, with
its default settings): our profile must not be slower than that. Without the package that part is left out, and said."""
import importlib
import json
import math
import os
import pathlib
import subprocess
import sys
import time

PACKAGE = "wasmtime==48.0.0"


def wasmtime_package():
    """The package, fetched once into the cache; None, with a reason on standard error, when it cannot be had."""
    cache = pathlib.Path(os.environ.get("WHERRY_CACHE") or pathlib.Path.home() / ".cache" / "wherry")
    folder = cache / "bench" / PACKAGE.replace("==", "-")
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target",
                   str(folder), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"compute: {PACKAGE} cannot be had: {done.stderr.strip()[-200:]}", file=sys.stderr)
            return None
    sys.path.insert(0, str(folder))
    return importlib.import_module("wasmtime")


def measure(wasmtime, bench: pathlib.Path, rounds: int, kernels: list[list[str]]) -> dict[str, float]:
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    module = wasmtime.Module(engine, (bench / "kernels.wasm").read_bytes())
    exports = wasmtime.Instance(store, module, []).exports(store)
    least = {}
    for name, size, want in kernels:
        function = exports[f"kernel_{name}"]
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            answer = function(store, int(size))
            times.append((time.perf_counter() - begin) * 1e3)
            if answer % 2**64 != int(want):
                sys.exit(f"compute: {name} answers otherwise on {PACKAGE}")
        least[name] = min(times)
    return least


def main() -> int:
    bench = pathlib.Path(os.environ["BENCH_DIR"])
    rounds = 10 if "--quick" in sys.argv else 100
    program = str(bench / "compute")
    ours = {}
    with subprocess.Popen([program, *sys.argv[1:]], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            result = json.loads(line)
            ours[result["name"]] = result["value"]
    if process.returncode != 0:
        return process.returncode
    wasmtime = wasmtime_package()
    if wasmtime is None:
        return 0
    listing = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    kernels = [line.split() for line in listing.splitlines()]
    theirs = measure(wasmtime, bench, rounds, kernels)
    product = 0.0
    for name, peer in theirs.items():
        value = ours[f"compute_{name}_ms"]
        product += math.log(value / peer)
        print(json.dumps({"name": f"compute_{name}_to_default_ms", "value": value, "unit": "ms", "peer": PACKAGE,
                          "peer_value": round(peer, 4), "ratio": round(value / peer, 3)}))
    mean = math.exp(product / len(theirs))
    print(json.dumps({"name": "compute_to_default_geomean", "value": round(mean, 3), "unit": "x", "peer": PACKAGE,
                      "peer_value": 1, "ratio": round(mean, 3), "goal": 1.05}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
