# SPDX-License-Identifier: Apache-2.0
"""wherry node on a folder of manifests: follows it, survives its own death and the keeper's."""
import json
import os
import random
import signal
import subprocess
import tempfile
import time

import pytest

import guest_sources as src
from common import Node, manifest, wait_for


def running(node, name):
    return lambda: "running" in node.container(name).get("state", {})


def ticks(node, name, *extra):
    out = node.cli("logs", *extra, name).stdout
    return [int(line.split()[1]) for line in out.splitlines() if line.startswith("tick ")]


def test_files_are_followed(node, guests):
    ticker = guests("ticker", src.TICKER)
    node.start()
    node.apply("a.yaml", manifest("a", ticker))
    wait_for(running(node, "a"), what="a runs")
    uid = node.pod("a")["metadata"]["uid"]
    node.apply("a.yaml", manifest("a", ticker, container={"args": ["50"]}))
    wait_for(lambda: running(node, "a")() and node.pod("a")["metadata"]["uid"] != uid, 20, "a was replaced")
    node.apply("b.json", manifest("b", ticker))
    wait_for(running(node, "b"), what="b runs")
    (node.manifests / "a.yaml").unlink()
    wait_for(lambda: node.pod("a") is None, 20, "a is gone")
    assert running(node, "b")()


def test_a_refused_file_says_why_and_the_rest_runs(node, guests):
    node.start()
    node.apply("bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: 5}\n")
    node.apply("good.yaml", manifest("good", guests("ticker", src.TICKER)))
    wait_for(running(node, "good"), what="good runs")
    assert "bad.yaml" in node.agent_log() and "spec.containers" in node.agent_log()


def test_command_line(node, guests):
    node.start()
    node.apply("t.yaml", manifest("t", guests("ticker", src.TICKER)))
    wait_for(running(node, "t"), what="t runs")
    wait_for(lambda: len(ticks(node, "t")) > 3, what="log lines")
    assert ticks(node, "t", "--tail", "2") == ticks(node, "t", "--tail", "2")[-2:]
    first = node.cli("logs", "--timestamps", "t").stdout.splitlines()[0]
    assert first.split(" ")[0].endswith("Z") and first.endswith("tick 0")
    described = node.cli("describe", "t").stdout
    assert "running" in described and "Started" in described
    assert "t" in node.cli("top").stdout
    assert "Running" in node.cli("ps").stdout
    gone = node.cli("describe", "nobody")
    assert gone.returncode == 1 and "no such pod" in gone.stderr
    assert node.cli("stop", "--grace", "1s", "t").returncode == 0
    wait_for(lambda: node.pod("t") is None, 20, "t is gone")


def test_crash_loop_is_counted_and_backs_off(node, guests):
    node.start()
    node.apply("x.yaml", manifest("x", guests("exit", src.EXIT), container={"args": ["3"]}))
    wait_for(lambda: node.container("x").get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff",
             what="CrashLoopBackOff")
    state = node.container("x")["lastState"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (3, "Error")
    assert node.cli("logs", "x").stdout == "arg 1: 3\non stderr\n"
    began = time.monotonic()
    restarts = node.container("x")["restartCount"]
    wait_for(lambda: node.container("x")["restartCount"] > restarts, 25, "the next restart")
    assert time.monotonic() - began > 5, "after a back-off"


def test_previous_log(node, guests):
    node.start()
    node.apply("x.yaml", manifest("x", guests("exit", src.EXIT), container={"args": ["1"]}))
    wait_for(lambda: node.container("x").get("restartCount", 0) >= 1, 30, "one restart")
    assert "arg 1: 1" in node.cli("logs", "--previous", "x").stdout


def log_file(node, name):
    return next((node.state / "logs").glob(f"default_{name}_*/c/0.log"))


def test_agent_killed_pods_unharmed(node, guests):
    node.start()
    node.apply("t.yaml", manifest("t", guests("ticker", src.TICKER), container={"args": ["20"]}))
    wait_for(running(node, "t"), what="t runs")
    before = node.container("t")
    for _ in range(3):
        node.kill()
        time.sleep(0.3)
        node.start()
        wait_for(running(node, "t"), what="t is taken over")
    after = node.container("t")
    assert after["containerID"] == before["containerID"]
    assert after["state"]["running"]["startedAt"] == before["state"]["running"]["startedAt"]
    assert after["restartCount"] == 0
    numbers = ticks(node, "t")
    assert numbers == list(range(len(numbers))), "a tick is missing or came twice"


def test_end_while_the_agent_is_away(node, guests):
    source = "#include <unistd.h>\n#include <stdio.h>\nint main(void) { sleep(2); puts(\"done\"); return 6; }\n"
    node.start()
    node.apply("e.yaml", manifest("e", guests("late", source), restartPolicy="Never"))
    wait_for(running(node, "e"), what="e runs")
    node.kill()
    time.sleep(2.5)
    node.start()
    wait_for(lambda: node.phase("e") == "Failed", what="the end is known")
    assert node.container("e")["state"]["terminated"]["exitCode"] == 6
    assert node.cli("logs", "e").stdout == "done\n"


def test_keeper_killed_pods_unharmed(node, guests):
    node.start()
    node.apply("t.yaml", manifest("t", guests("ticker", src.TICKER), container={"args": ["20"]}))
    wait_for(running(node, "t"), what="t runs")
    before = node.container("t")["containerID"]
    old = node.keeper_pid()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: node.keeper_pid() not in (None, old), what="a new keeper")
    time.sleep(0.5)
    assert running(node, "t")() and node.container("t")["containerID"] == before
    assert node.container("t")["restartCount"] == 0
    numbers = ticks(node, "t")
    assert numbers == list(range(len(numbers)))
    assert node.cli("stop", "--grace", "1s", "t").returncode == 0
    wait_for(lambda: node.pod("t") is None, 20, "t can be stopped through the new keeper")


def test_keeper_killed_while_it_starts_pods(node, guests):
    ticker = guests("ticker", src.TICKER)
    node.start()
    node.apply("warm.yaml", manifest("warm", ticker))
    wait_for(running(node, "warm"), what="the code is compiled")
    for round_ in range(4):
        names = [f"s{round_}-{i}" for i in range(15)]
        node.apply(f"s{round_}.yaml", "\n---\n".join(manifest(name, ticker) for name in names))
        time.sleep(0.06 + 0.03 * round_)
        os.kill(node.keeper_pid(), signal.SIGKILL)
        wait_for(lambda: all(running(node, name)() for name in names), 40, "all of them run")
        wait_for(lambda: node.keeper_pid(), what="a new keeper")


def test_both_killed_while_a_guest_ends(node, guests):
    source = "#include <unistd.h>\nint main(void) { sleep(1); return 5; }\n"
    node.start()
    node.apply("e.yaml", manifest("e", guests("five", source), restartPolicy="Never"))
    wait_for(running(node, "e"), what="e runs")
    node.kill()
    os.kill(node.keeper_pid(), signal.SIGKILL)
    time.sleep(1.5)
    node.start()
    wait_for(lambda: node.phase("e") == "Failed", what="the end is known")
    assert node.container("e")["state"]["terminated"]["exitCode"] == 5, "the runner's own record says it"


def test_log_rotation_loses_no_line(node, guests):
    node.extra = ["--log-max-size", "200Ki"]
    lines = 100_000
    node.start()
    node.apply("f.yaml", manifest("f", guests("flood", src.FLOOD + "/* slow */\n"), container={"args": [str(lines)]},
                                  restartPolicy="Never"))
    wait_for(lambda: node.phase("f") == "Succeeded", 60, "flood ends")
    out = node.cli("logs", "f", timeout=60).stdout.splitlines()
    assert [int(l.split()[1]) for l in out] == list(range(lines))


def test_stop_order_and_grace(node, guests):
    node.start()
    node.apply("s.yaml", manifest("s", guests("stubborn", src.STUBBORN), terminationGracePeriodSeconds=2))
    wait_for(running(node, "s"), what="s runs")
    began = time.monotonic()
    node.cli("stop", "s")
    wait_for(lambda: node.pod("s") is None, 20, "s is gone")
    assert 1.5 < time.monotonic() - began < 5


def test_oom_and_trap_reasons(node, guests):
    node.start()
    node.apply("m.yaml", manifest("m", guests("memory", src.MEMORY), restartPolicy="Never",
                                  container={"resources": {"limits": {"memory": "16Mi"}}}))
    node.apply("t.yaml", manifest("t", guests("trap", src.TRAP), restartPolicy="Never"))
    wait_for(lambda: node.phase("m") == "Failed" and node.phase("t") == "Failed", 30, "both failed")
    oom = node.container("m")["state"]["terminated"]
    trap = node.container("t")["state"]["terminated"]
    assert (oom["reason"], oom["exitCode"]) == ("OOMKilled", 137)
    assert trap["exitCode"] == 134 and "unreachable" in trap["message"]


def test_image_that_is_not_there(node):
    node.start()
    node.apply("i.yaml", manifest("i", "127.0.0.1:1/none:1"))
    reason = lambda: node.container("i").get("state", {}).get("waiting", {}).get("reason")
    wait_for(lambda: reason() in ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"), 30, "ErrImagePull")
    assert "127.0.0.1:1" in json.dumps(node.container("i"))


def test_nothing_is_left_behind(node, guests):
    node.start()
    node.apply("t.yaml", manifest("t", guests("ticker", src.TICKER), container={
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}]))
    wait_for(running(node, "t"), what="t runs")
    uid = node.pod("t")["metadata"]["uid"]
    (node.manifests / "t.yaml").unlink()
    wait_for(lambda: node.pod("t") is None, 20, "t is gone")
    assert not (node.state / "pods" / uid).exists()
    assert uid not in open("/proc/self/mountinfo").read()
    assert list((node.run_dir / "containers").glob(f"{uid}*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for uids of their own")
def test_each_pod_has_a_uid_of_its_own(node, guests):
    node.start()
    for name in ("u1", "u2"):
        node.apply(f"{name}.yaml", manifest(name, guests("ticker", src.TICKER)))
    wait_for(lambda: running(node, "u1")() and running(node, "u2")(), what="both run")
    uids = set()
    keeper = f"PPid:\t{node.keeper_pid()}\n"
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/status") as f:
                text = f.read()
        except OSError:
            continue
        if text.startswith("Name:\twherry-runner") and keeper in text:
            uids.add([line for line in text.splitlines() if line.startswith("Uid:")][0].split()[1])
            assert "CapEff:\t0000000000000000" in text and "NoNewPrivs:\t1" in text and "Seccomp:\t2" in text
    assert len(uids) >= 2 and "0" not in uids


def processes(name):
    """(pid, parent) of every process of that name."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/status") as f:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        except OSError:
            continue
        if fields.get("Name") == name:
            found.append((int(entry), int(fields["PPid"])))
    return found


def runner_of(uid):
    """The runner of a pod, by its control group; None where there are no groups, or it does not run."""
    for pid, _ in processes("wherry-runner"):
        try:
            with open(f"/proc/{pid}/cgroup") as f:
                if f"pod{uid}" in f.read():
                    return pid
        except OSError:
            continue
    return None


def kill_something(node, rng, victims):
    """One of the four programs, at random; only processes of this node."""
    choice = rng.random()
    keeper = node.keeper_pid()
    if choice < 0.35 and keeper:
        os.kill(keeper, signal.SIGKILL)
    elif choice < 0.6:
        node.kill()
        node.start()
    elif choice < 0.85:
        pod = node.pod(rng.choice(victims))
        pid = pod and runner_of(pod["metadata"]["uid"])
        if pid:
            os.kill(pid, signal.SIGKILL)
    else:
        for pid, parent in processes("wherry-prepare"):
            if parent == node.process.pid:
                os.kill(pid, signal.SIGKILL)


def test_random_deaths_under_load(node, guests):
    """All four programs die at random moments while pods come and go: nothing acknowledged is lost, nothing hangs."""
    seconds = float(os.environ.get("WHERRY_CHAOS_SECONDS", "15"))
    rng = random.Random(7)
    node.start()
    ticker = guests("ticker", src.TICKER)
    keep, victims = [f"k{i}" for i in range(8)], [f"v{i}" for i in range(4)]
    for name in keep + victims:
        node.apply(f"{name}.yaml", manifest(name, ticker, container={"args": ["50"]}))
    wait_for(lambda: all(running(node, name)() for name in keep + victims), 30, "all run")
    ids = {name: node.container(name)["containerID"] for name in keep}
    end = time.monotonic() + seconds
    n = 0
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.1, 0.6))
        n += 1
        # A module that nobody compiled yet: prepare is at work.
        node.apply("x.yaml", manifest(f"x{n}", guests(f"fresh{n}", src.EXIT + f"int fresh = {n};\n"), restartPolicy="Never"))
        kill_something(node, rng, victims)
    wait_for(lambda: all(running(node, name)() for name in keep), 30, "all run at the end")
    for name in keep:
        c = node.container(name)
        assert c["containerID"] == ids[name] and c["restartCount"] == 0, c
    wait_for(lambda: node.phase(f"x{n}") == "Succeeded", 60, "the last short pod has run")
    for name in victims:
        reason = node.container(name)["state"]
        assert "running" in reason or reason["waiting"]["reason"] == "CrashLoopBackOff", reason


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_full_disk(guests, tmp_path):
    """State and logs on 24 MiB: a flood of log lines fills it. The agent goes on, says so, and recovers."""
    disk = tempfile.mkdtemp(prefix="wherry-disk-")
    os.chmod(disk, 0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "wherry-test", disk], check=True)
    node = Node(disk)
    node.extra = ["--log-max-size", "1Gi"]
    try:
        node.start()
        node.apply("t.yaml", manifest("t", guests("ticker", src.TICKER)))
        wait_for(running(node, "t"), what="t runs")
        node.apply("f.yaml", manifest("f", guests("flood", src.FLOOD + "/* slow */\n"), container={"args": ["2000000"]},
                                      restartPolicy="Never"))
        wait_for(lambda: os.statvfs(disk).f_bavail * 4096 < 200_000, 60, "the disk is full")
        assert node.cli("ps").returncode == 0, "the agent answers on a full disk"
        assert running(node, "t")()
        (node.manifests / "f.yaml").unlink()
        wait_for(lambda: node.pod("f") is None, 60, "the flood can be ended")
        for log in (node.state / "logs").glob("default_f_*/c/*"):
            log.unlink()
        node.apply("e.yaml", manifest("e", guests("exit", src.EXIT), restartPolicy="Never"))
        wait_for(lambda: node.phase("e") == "Succeeded", 30, "new pods run when there is room again")
    finally:
        node.stop()
        subprocess.run(["umount", disk], check=True)
        os.rmdir(disk)
