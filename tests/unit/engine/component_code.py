#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""component_code.py COMPILE GUESTS.py NAME PROFILE OUT: compiled code of a guest of tests/guests/http.

Where the tools for that guest are missing OUT is empty, and the tests that want it say so and skip.
"""
import pathlib
import subprocess
import sys


def main() -> int:
    compile_tool, guests, name, profile, out = sys.argv[1:]
    built = subprocess.run([sys.executable, guests, name], stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode == 77:
        pathlib.Path(out).write_bytes(b"")
        return 0
    if built.returncode != 0:
        return built.returncode
    return subprocess.run([compile_tool, profile, built.stdout.split()[-1], out], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
