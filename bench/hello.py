#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The smallest component on one core, 64 connections that stay, load from the other core: an instance per request,
and instances that serve 128; wasi:http 0.2 and 0.3. The peer is `wasmtime serve`, with the same limits, in
alternating runs. The best run of each counts; CPU time per request stands beside the rate, and goes in the same line
as `cpu_us`."""
import pathlib
import sys
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
import serving  # noqa: E402

QUICK = "--quick" in sys.argv
ROUNDS, SECONDS = (2, 1) if QUICK else (5, 3)
# Ours have deadlines and keep 64 KiB of a memory; so has the peer.
PEER_FLAGS = ["-W", "epoch-interruption=y"]
PEER_SERVE = ["-S", "cli", "-O", "pooling-allocator=y", "-O", "pooling-memory-keep-resident=65536",
              "-O", "pooling-table-keep-resident=65536", "-W", "timeout=60s"]
GOALS = {"fresh": 1.3, "reuse": 1.1}


def measure(run: Callable[..., list[str]], version: str, what: str, reuse: int) -> None:
    wasm = serving.guest(f"hello-{version}")
    compiled = serving.precompiled(wasm, PEER_FLAGS)
    peer = serving.wasmtime()

    def ours(port: int) -> list[str]:
        return run(port, "--reuse", str(reuse), wasm)

    def theirs(port: int) -> list[str]:
        return [peer, "serve", "--addr", f"127.0.0.1:{port}", "--allow-precompiled", *PEER_SERVE,
                "--max-instance-reuse-count", str(reuse), compiled]

    best: dict[str, serving.Load] = {}
    cpu: dict[str, float] = {}
    try:
        for _ in range(ROUNDS):
            for name, command in (("ours", ours), ("peer", theirs)):
                with serving.Server(name, command) as server:
                    serving.wrk(server, 1)  # warm
                    load = serving.wrk(server, SECONDS)
                if name not in best or load.rate > best[name].rate:
                    best[name] = load
                cpu[name] = min(load.cpu_us, cpu.get(name, load.cpu_us))
    finally:
        pathlib.Path(compiled).unlink(missing_ok=True)
    serving.report(f"hello_{version}_{what}_rps", best["ours"].rate, "1/s", f"wasmtime serve {serving.WASMTIME}",
                   best["peer"].rate, GOALS[what], "ratio", cpu_us=round(cpu["ours"], 2),
                   peer_cpu_us=round(cpu["peer"], 2), cpu_ratio=round(cpu["ours"] / cpu["peer"], 3))


with serving.skips("hello"), serving.wherry_run() as wherry:
    for v in ("p2", "p3"):
        measure(wherry, v, "fresh", 1)
        measure(wherry, v, "reuse", 128)
