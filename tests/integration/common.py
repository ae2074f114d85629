# SPDX-License-Identifier: Apache-2.0
"""What the tests of the real programs share: where they are, a node of one's own."""
import json
import os
import pathlib
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("WHERRY_BIN", ROOT / "build" / "default" / "bin"))
WHERRY = BIN / "wherry"


def wait_for(condition, seconds=15, what="condition"):
    """Polls until condition() is true and returns its value; bounded."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Node:
    """An agent on a folder of manifests, with state and sockets of its own."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.manifests = self.folder / "manifests"
        self.state = self.folder / "state"
        self.run_dir = self.folder / "run"
        self.manifests.mkdir()
        self.log = open(self.folder / "agent.log", "ab")
        self.process = None
        self.extra = []

    def start(self):
        self.process = subprocess.Popen(
            [WHERRY, "node", "--manifests", self.manifests, "--root", self.state, "--run-dir", self.run_dir, "--name",
             "test", "--log-format", "text", *self.extra], stdout=self.log, stderr=self.log)
        wait_for(lambda: self.cli("ps").returncode == 0 or self.process.poll() is not None, what="agent answers")
        assert self.process.poll() is None, self.agent_log()
        return self

    def agent_log(self):
        return (self.folder / "agent.log").read_text(errors="replace")

    def cli(self, *args, timeout=30):
        command = [WHERRY, args[0], "--run-dir", self.run_dir, "--root", self.state, *args[1:]]
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=False)

    def pods(self):
        result = self.cli("ps", "-o", "json")
        assert result.returncode == 0, result.stderr + self.agent_log()[-2000:]
        return {entry["pod"]["metadata"]["name"]: entry["pod"] for entry in json.loads(result.stdout)}

    def pod(self, name):
        return self.pods().get(name)

    def phase(self, name):
        pod = self.pod(name)
        return pod and pod.get("status", {}).get("phase")

    def container(self, name, index=0):
        statuses = (self.pod(name) or {}).get("status", {}).get("containerStatuses", [])
        return statuses[index] if len(statuses) > index else {}

    def apply(self, file, text):
        hidden = self.manifests / f".{file}"
        hidden.write_text(text)
        hidden.rename(self.manifests / file)

    def keeper_pid(self):
        needle = str(self.run_dir).encode()
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                line = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if line and line[0].endswith(b"wherry-keeper") and needle in line:
                return int(entry.name)
        return None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ends pods, agent and keeper: all of them are ours."""
        for file in list(self.manifests.iterdir()):
            file.unlink()
        try:
            if self.process.poll() is None:
                wait_for(lambda: not self.pods(), 40, "pods end")
        finally:
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait(20)
            keeper = self.keeper_pid()
            if keeper:
                os.kill(keeper, signal.SIGTERM)
            # The pods' namespace outlives the agent, for the pods that do.
            netns = self.run_dir / "network" / "netns"
            if netns.exists():
                subprocess.run(["umount", netns], check=False, capture_output=True)
            self.log.close()


def manifest(name, image, **extra):
    """A pod of one container, as YAML (JSON is YAML)."""
    container = {"name": "c", "image": str(image), **extra.pop("container", {})}
    spec = {"containers": [container], **extra}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
