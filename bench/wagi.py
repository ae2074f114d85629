#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a CGI function in a fresh instance adds to an answer that our server gives from C, as a client on one
connection sees it (p50), and as CPU time. The static answer is the other side of the same run."""
import pathlib
import sys
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
import serving  # noqa: E402

QUICK = "--quick" in sys.argv
ROUNDS, SECONDS = (2, 1) if QUICK else (6, 2)


def measure(run: Callable[..., list[str]]) -> None:
    static = serving.build_folder() / "tests" / "tools" / "http_server"
    if not static.is_file():
        raise serving.Skip(f"no program {static}")
    wasm = serving.guest("hello-c")

    def function(port: int) -> list[str]:
        return run(port, "--serve", "wagi", wasm)

    def answer(port: int) -> list[str]:
        return [str(static), "--listen", f"127.0.0.1:{port}"]

    p50: dict[str, float] = {}
    cpu: dict[str, float] = {}
    rate = 0.0
    for _ in range(ROUNDS):
        for name, command in (("function", function), ("static", answer)):
            with serving.Server(name, command) as server:
                serving.wrk(server, 1, 1)  # warm
                one, many = serving.wrk(server, SECONDS, 1), serving.wrk(server, SECONDS, 64)
            p50[name] = min(one.p50_us, p50.get(name, one.p50_us))
            cpu[name] = min(many.cpu_us, cpu.get(name, many.cpu_us))
            rate = max(rate, many.rate) if name == "function" else rate
    serving.report("wagi_added_p50_us", p50["function"] - p50["static"], "us", goal=60,
                   p50_us=round(p50["function"], 2), static_p50_us=round(p50["static"], 2))
    serving.report("wagi_cpu_us", cpu["function"], "us", "our static answer", cpu["static"], rps=round(rate))


with serving.skips("wagi"), serving.wherry_run() as wherry:
    measure(wherry)
