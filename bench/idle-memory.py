#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an idle pod costs: 200 sleeping guests under a real keeper in a memory control group of their own, kernel memory
included, page cache left out (the program and the module are one copy for all). The keeper alone is measured first. The
peer is a static C program that sleeps, by runc under a containerd of its own with the usual shim, counted alike."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

PODS = 20 if "--quick" in sys.argv else 200


def skip(reason):
    print(f"idle-memory: {reason}", file=sys.stderr)
    sys.exit(77)


def record(*fields):
    out = b""
    for key, value in fields:
        data = str(value).encode() if not isinstance(value, bytes) else value
        out += bytes([len(key)]) + key.encode() + struct.pack("<I", len(data)) + data
    return out


def parse(data):
    fields, at = {}, 0
    while at < len(data):
        n = data[at]
        key = data[at + 1:at + 1 + n].decode()
        (size,) = struct.unpack_from("<I", data, at + 1 + n)
        at += 5 + n
        fields[key] = data[at:at + size].decode(errors="replace")
        at += size
    return fields


class Group:
    """A child of our own memory group, in either hierarchy."""

    def __init__(self):
        own = dict(line.strip().split(":", 2)[1:] for line in open("/proc/self/cgroup", encoding="ascii"))
        v1 = "/sys/fs/cgroup/memory" + own.get("memory", "")
        v2 = "/sys/fs/cgroup" + own.get("", "")
        self.v1 = os.path.exists(v1 + "/memory.usage_in_bytes")
        base = v1 if self.v1 else v2
        if not self.v1 and "memory" not in open_text(base + "/cgroup.subtree_control"):
            skip("no memory controller for a child group")
        self.dir = f"{base}/wherry-idle-{os.getpid()}"
        try:
            os.mkdir(self.dir)
        except OSError as e:
            skip(f"a control group cannot be made: {e}")

    def stat(self, key):
        for line in open_text(self.dir + "/memory.stat").splitlines():
            if line.split()[0] == key:
                return int(line.split()[1])
        return 0

    def used(self):
        """Bytes without page cache; memory of memfds stays in."""
        time.sleep(1)
        if self.v1:
            usage = int(open_text(self.dir + "/memory.usage_in_bytes"))
            return usage - self.stat("total_cache") + self.stat("total_shmem")
        usage = int(open_text(self.dir + "/memory.current"))
        return usage - self.stat("file") + self.stat("shmem")

    def join(self):
        with open(self.dir + "/cgroup.procs", "w", encoding="ascii") as f:
            f.write("0")

    def path(self):
        """Below the mount of the hierarchy."""
        return self.dir[len("/sys/fs/cgroup/memory" if self.v1 else "/sys/fs/cgroup"):]

    def remove_others(self):
        """In v1 runc makes the group in all hierarchies, and removes the containers' own alone."""
        for controller in os.listdir("/sys/fs/cgroup") if self.v1 else []:
            at = f"/sys/fs/cgroup/{controller}{self.path()}"
            while os.path.basename(at) and at.count("/") > 4:
                try:
                    os.rmdir(at)
                except OSError:
                    break
                at = os.path.dirname(at)

    def remove(self):
        for _ in range(200):
            try:
                os.rmdir(self.dir)
                return
            except OSError:
                time.sleep(0.05)


def open_text(path):
    try:
        with open(path, encoding="ascii") as f:
            return f.read()
    except OSError:
        return ""


class Keeper:
    def __init__(self, program, folder, group):
        self.process = subprocess.Popen([program, "--dir", folder], preexec_fn=group.join, stdin=subprocess.DEVNULL)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for _ in range(100):
            try:
                self.socket.connect(folder + "/keeper.sock")
                break
            except OSError:
                time.sleep(0.02)
        self.seq = 0
        self.running = 0
        self.ask("watch")

    def ask(self, op, *fields, fds=()):
        self.seq += 1
        socket.send_fds(self.socket, [record(("op", op), ("seq", self.seq), *fields)], list(fds))
        while True:
            answer = self.receive()
            if answer.get("seq") == str(self.seq):
                break
        if answer["rc"] != "0":
            raise RuntimeError(answer.get("error", answer))

    def receive(self):
        message = parse(self.socket.recv(1 << 17))
        self.running += message.get("event") == "running"
        return message


def start(keeper, i, code, runner):
    spec = os.memfd_create("spec")
    end, log = os.memfd_create("end"), os.memfd_create("log")
    null = os.open("/dev/null", os.O_RDWR)
    code_fd, program = os.open(code, os.O_RDONLY), os.open(runner, os.O_RDONLY)
    os.write(spec, record(("version", 1), ("id", f"p{i}"), ("code_fd", 4), ("end_fd", 5), ("log_fd", 6),
                          ("control_fd", 7), ("stop_signal", 15), ("memory_bytes_max", 32 << 20), ("arg", "sleeper")))
    uid = 165536 + i if os.getuid() == 0 else os.getuid()
    fds = [null, null, null, spec, code_fd, end, log, program]
    keeper.ask("start", ("id", f"p{i}"), ("uid", uid), ("gid", uid), ("nofile", 1024), ("namespaces", 1), fds=fds)
    for fd in set(fds):
        os.close(fd)


def tool(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)


def containerd_each(bench, pods):
    """KiB of one idle container with its shim; None where containerd or runc is missing."""
    if not all(map(shutil.which, ("containerd", "ctr", "runc", "containerd-shim-runc-v2"))):
        return None
    group = Group()
    folder = tempfile.mkdtemp(prefix="wherry-ctd-")
    os.mkdir(f"{folder}/rootfs")
    shutil.copy(f"{bench}/hello_program", f"{folder}/rootfs/program")
    with open(f"{folder}/config.toml", "w", encoding="ascii") as f:
        f.write(f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
                f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{folder}/s"\n'
                f'[ttrpc]\naddress = "{folder}/t"\n')
    daemon = subprocess.Popen(["containerd", "-c", f"{folder}/config.toml"], preexec_fn=group.join,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ctr = ["ctr", "-a", f"{folder}/s"]
    below = group.path()
    begun = 0
    try:
        for _ in range(200):
            if tool(*ctr, "version").returncode == 0:
                break
            time.sleep(0.05)
        alone = group.used()
        while begun < pods:
            done = tool(*ctr, "run", "-d", "--cgroup", f"{below}/c{begun}", "--rootfs", f"{folder}/rootfs",
                        f"c{begun}", "/program", "sleep")
            if done.returncode != 0:
                print(f"idle-memory: ctr: {done.stderr.strip()[-200:]}", file=sys.stderr)
                return None
            begun += 1
        return (group.used() - alone) / pods / 1024
    finally:
        for i in range(begun):
            tool(*ctr, "task", "kill", "-s", "KILL", f"c{i}")
        time.sleep(0.5)
        for i in range(begun):
            tool(*ctr, "task", "rm", f"c{i}")
            tool(*ctr, "container", "rm", f"c{i}")
        daemon.terminate()
        daemon.wait()
        for pid in open_text(group.dir + "/cgroup.procs").split():
            os.kill(int(pid), signal.SIGKILL)
        group.remove()
        group.remove_others()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    bench = os.environ.get("BENCH_DIR") or skip("BENCH_DIR is not set: start it by bench/run")
    program = f"{bench}/../src/keeper/wherry-keeper"
    runner = f"{bench}/../src/runner/wherry-runner"
    code = f"{bench}/sleeper.cwasm"
    if os.getuid() != 0 or not all(map(os.path.exists, (program, runner, code))):
        skip("needs root, and a build with keeper, runner and sleeper.cwasm")
    group = Group()
    folder = tempfile.mkdtemp(prefix="wherry-idle-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    keeper = Keeper(program, folder, group)
    try:
        alone = group.used()
        for i in range(PODS):
            start(keeper, i, code, runner)
        while keeper.running < PODS:
            keeper.receive()
        each = (group.used() - alone) / PODS / 1024
    finally:
        for pid in open_text(group.dir + "/cgroup.procs").split():
            os.kill(int(pid), signal.SIGKILL)
        keeper.process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        group.remove()
    result = {"name": "idle_pod_kib", "value": round(each, 1), "unit": "KiB", "goal": 384}
    peer = containerd_each(bench, 10)
    if peer is not None:
        result |= {"peer": "runc under containerd, static C", "peer_value": round(peer, 1), "ratio": round(each / peer, 4)}
    print(json.dumps(result))
    print(json.dumps({"name": "keeper_kib", "value": round(alone / 1024, 1), "unit": "KiB"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
