# SPDX-License-Identifier: Apache-2.0
"""wherry run of a manifest."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

import guest_sources as src
from common import WHERRY, manifest, wait_for


def write(tmp_path, *documents):
    path = tmp_path / "pods.yaml"
    path.write_text("\n---\n".join(documents))
    return path


def test_one_pod(run, guests, tmp_path):
    path = write(tmp_path, manifest("one", guests("exit", src.EXIT), container={"args": ["0", "x"]}, restartPolicy="Never"))
    r = run(path)
    assert r.returncode == 0, r.stderr
    assert "[one] arg 2: x\n" in r.stdout
    assert "[one] on stderr" in r.stderr


def test_exit_code_of_the_only_container(run, guests, tmp_path):
    path = write(tmp_path, manifest("one", guests("exit", src.EXIT), container={"args": ["9"]}, restartPolicy="Never"))
    assert run(path).returncode == 9


def test_configuration_reaches_the_guest(run, guests, tmp_path):
    config = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"},
                         "data": {"greeting": "hello", "file.txt": "from a file\n"}})
    secret = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"}, "stringData": {"pw": "s3cret"}})
    pod = manifest("conf", guests("env", src.ENV), restartPolicy="Never", container={
        "args": ["A", "B", "NAME", "C"],
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "greeting"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "C", "value": "$(A)-$(B)-$(NOPE)"}]})
    files = manifest("files", guests("cat", src.CAT), restartPolicy="Never", container={
        "args": ["/conf/file.txt", "/sec/pw"],
        "volumeMounts": [{"name": "c", "mountPath": "/conf"}, {"name": "s", "mountPath": "/sec"}]},
        volumes=[{"name": "c", "configMap": {"name": "conf"}}, {"name": "s", "secret": {"secretName": "sec"}}])
    r = run(write(tmp_path, config, secret, pod, files))
    assert r.returncode == 0, r.stderr
    for line in ["[conf] A=hello", "[conf] B=s3cret", "[conf] NAME=conf", "[conf] C=hello-s3cret-$(NOPE)",
                 "[files] from a file", "[files] s3cret"]:
        assert line in r.stdout, r.stdout


def test_init_containers_run_first_and_share_volumes(run, guests, tmp_path):
    pod = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "init"}, "spec": {
        "restartPolicy": "Never", "volumes": [{"name": "v", "emptyDir": {}}],
        "initContainers": [{"name": "first", "image": str(guests("write", src.WRITE)), "args": ["/v/f", "made before\n"],
                            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "containers": [{"name": "main", "image": str(guests("cat", src.CAT)), "args": ["/v/f"],
                        "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}})
    r = run(write(tmp_path, pod))
    assert r.returncode == 0, r.stderr
    assert "[init/main] made before" in r.stdout


def test_job_runs_to_its_completions(run, guests, tmp_path):
    job = json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {
        "completions": 5, "parallelism": 2, "completionMode": "Indexed", "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": str(guests("env", src.ENV)), "args": ["JOB_COMPLETION_INDEX"]}]}}}})
    r = run(write(tmp_path, job))
    assert r.returncode == 0, r.stderr
    assert sorted(re.findall(r"JOB_COMPLETION_INDEX=(\d)", r.stdout)) == list("01234")


def test_failing_job_ends_with_its_backoff_limit(run, guests, tmp_path):
    job = json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "bad"}, "spec": {
        "backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [
            {"name": "c", "image": str(guests("exit", src.EXIT)), "args": ["3"]}]}}}})
    r = run(write(tmp_path, job))
    assert r.returncode == 3, r.stderr


def test_interrupt_ends_gracefully(store, guests, tmp_path):
    path = write(tmp_path, manifest("g", guests("graceful", src.GRACEFUL), restartPolicy="Never"))
    p = subprocess.Popen([WHERRY, "run", "--root", store, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "[g] waiting\n"
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=20)
    assert "[g] asked to stop: TERM" in out, err
    assert p.returncode == 130


def test_second_interrupt_ends_at_once(store, guests, tmp_path):
    path = write(tmp_path, manifest("s", guests("stubborn", src.STUBBORN), restartPolicy="Never"))
    p = subprocess.Popen([WHERRY, "run", "--root", store, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "[s] up\n"
    p.send_signal(signal.SIGINT)
    assert p.stdout.readline() == "[s] ignoring it\n"
    began = time.monotonic()
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=20)
    assert time.monotonic() - began < 8


def test_grace_period_is_kept(store, guests, tmp_path):
    path = write(tmp_path, manifest("s", guests("stubborn", src.STUBBORN), restartPolicy="Never",
                                    terminationGracePeriodSeconds=2))
    p = subprocess.Popen([WHERRY, "run", "--root", store, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "[s] up\n"
    began = time.monotonic()
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=20)
    assert 1.5 < time.monotonic() - began < 4


def pod_text(**spec):
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})


@pytest.mark.parametrize("text,words", [
    (pod_text(containers="none"), ["spec.containers"]),
    (pod_text(containers=[{"name": "c", "image": "x", "env": [{"name": "A", "value": 5}]}]), ["spec.containers[0].env[0].value", "string"]),
    (pod_text(containers=[{"name": "c", "image": "x", "volumeMounts": [{"name": "nope", "mountPath": "/x"}]}]), ["nope"]),
    (pod_text(containers=[{"name": "c", "image": "x"}], volumes=[{"name": "v", "nfs": {"server": "s", "path": "/"}}]), ["nfs"]),
    ("kind: Deployment\napiVersion: apps/v1\nmetadata: {name: d}\n", ["Deployment"]),
    ("a: [1, 2\n", ["line"]),
    ("a: &a [x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\n"
     "e: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f]\n", ["values"]),
    ("", []),
])
def test_bad_manifests_are_refused_with_a_reason(run, tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    r = run(path)
    assert r.returncode == 1, r.stdout
    assert r.stderr.startswith("wherry: ")
    for word in words:
        assert word in r.stderr, r.stderr


def test_ten_megabytes_of_yaml(run, tmp_path):
    path = tmp_path / "big.yaml"
    path.write_text("kind: Pod\nx:\n" + "- abcdefgh\n" * 1_000_000)
    began = time.monotonic()
    r = run(path)
    assert r.returncode == 1
    assert time.monotonic() - began < 5


def test_restart_keeps_emptydir(run, guests, tmp_path):
    source = open(__file__.rsplit("/tests/", 1)[0] + "/examples/service/service.c").read()
    pod = manifest("svc", guests("service", source), restartPolicy="OnFailure",
                   container={"volumeMounts": [{"name": "s", "mountPath": "/state"}]},
                   volumes=[{"name": "s", "emptyDir": {}}])
    r = run("--summary", write(tmp_path, pod))
    assert r.returncode == 0, r.stderr
    assert "life 1, tick 3" in r.stdout and "ends well in life 2" in r.stdout
    assert re.search(r"svc\s+c\s+Completed \(0\)\s+1\b", r.stderr), r.stderr


def test_a_killed_run_leaves_nothing(run, store, guests, tmp_path):
    """Its pods end with it; its folder and mounts go with the next run."""
    secret = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"}, "stringData": {"pw": "s3cret"}})
    pod = manifest("k", guests("ticker", src.TICKER), restartPolicy="Never",
                   container={"volumeMounts": [{"name": "s", "mountPath": "/sec"}]},
                   volumes=[{"name": "s", "secret": {"secretName": "sec"}}])
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    p = subprocess.Popen([WHERRY, "run", "--root", store, write(tmp_path, secret, pod)], stdout=subprocess.PIPE, text=True,
                         env=env)
    assert p.stdout.readline() == "[k] tick 0\n"
    left = list(tmp_path.glob("wherry-run-*"))
    assert len(left) == 1
    p.kill()
    p.wait()
    keepers = lambda: [e for e in pathlib.Path("/proc").glob("[0-9]*/cmdline") if str(left[0]).encode() in e.read_bytes()]
    wait_for(lambda: not keepers(), 10, "keeper and runners ended with it")
    path = tmp_path / "next.yaml"
    path.write_text(manifest("n", guests("exit", src.EXIT), restartPolicy="Never"))
    assert run(path, env=env).returncode == 0
    assert list(tmp_path.glob("wherry-run-*")) == []
    assert str(left[0]) not in open("/proc/self/mountinfo").read()
