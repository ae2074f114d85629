#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A room includes only rooms below it. The order and the exceptions are those of docs/ARCHITECTURE.md."""
import pathlib
import re
import sys

# room: what it may include besides itself
BELOW = {
    "base": [],
    "loop": ["base"],
    "net": ["base", "loop"],
    "http": ["base", "loop", "net"],
    "engine": ["base"],
    "abi": ["base", "engine"],
    "keeper": ["base", "loop", "runner/control.h"],
    "netd": ["base", "loop", "net"],
    "serve": ["base", "loop", "net", "http", "engine", "abi", "netd"],
    "runner": ["base", "loop", "net", "http", "engine", "abi", "netd", "serve"],
    "prepare": ["base", "engine", "abi"],
    "image": ["base", "engine", "prepare"],
    "kube": ["base", "loop", "net", "http"],
    "pod": ["base", "keeper/cgroup.h"],
    "node": ["base", "loop", "net", "http", "engine/engine.h", "keeper", "netd", "runner", "image", "kube", "pod"],
    "cmd": ["base", "loop", "net", "http", "engine/engine.h", "keeper", "netd", "runner", "image", "kube", "pod", "node"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def main() -> int:
    bad = 0
    for path in sorted(pathlib.Path("src").rglob("*.[ch]")):
        room = path.parts[1]
        if room not in BELOW:
            print(f"{path}: room '{room}' is not in tools/layers.py")
            bad += 1
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match or "/" not in match[1]:
                continue
            target = match[1]
            allowed = [room, *BELOW[room]]
            if not any(target == a or target.startswith(a + "/") for a in allowed):
                print(f"{path}:{number}: {room} may not include {target}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
