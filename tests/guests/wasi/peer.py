#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs one WASI command on Wasmtime's own WASI, with the options of wasi-run. Needs the wheel wasmtime==48.0.0."""
import argparse
import re
import sys

import wasmtime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", action="append", default=[])
    parser.add_argument("--dir-ro", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("guest")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    a = parser.parse_args()

    wasi = wasmtime.WasiConfig()
    wasi.argv = [a.guest, *a.arguments]
    wasi.env = [tuple(e.split("=", 1)) for e in a.env]
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    for mutable, specs in ((True, a.dir), (False, a.dir_ro)):
        for spec in specs:
            host, guest = spec.split("::")
            wasi.preopen_dir(host, guest, mutable)
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    store.set_wasi(wasi)
    instance = linker.instantiate(store, wasmtime.Module.from_file(engine, a.guest))
    try:
        instance.exports(store)["_start"](store)
    except wasmtime.ExitTrap as exit_trap:
        return exit_trap.code
    except (wasmtime.Trap, wasmtime.WasmtimeError) as trap:
        cause = re.search(r"Caused by:\s*(?:0: )?(.*)", str(trap))
        print("trap:", cause.group(1) if cause else str(trap).splitlines()[0], file=sys.stderr)
        return 134
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    sys.exit(main())
