# SPDX-License-Identifier: Apache-2.0
"""Real registries and real clients: what others push we run, and what we push others read."""
import base64
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from image_tools import Store, free_port, run_server, stop


def digest_of(path):
    return "sha256:" + hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def push_raw(crane_registry, name, config_type, layers, config=b"{}", tag="v1"):
    """Pushes a manifest of exactly these layers [(type, bytes, annotations)] by the protocol itself."""
    import urllib.request

    def put(url, data, content_type):
        request = urllib.request.Request(url, data=data, method="PUT", headers={"Content-Type": content_type})
        with urllib.request.urlopen(request) as answer:
            return answer.status

    def blob(data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        begin = urllib.request.Request(f"http://{crane_registry}/v2/{name}/blobs/uploads/", data=b"", method="POST")
        with urllib.request.urlopen(begin) as answer:
            location = answer.headers["Location"]
        if location.startswith("/"):
            location = f"http://{crane_registry}{location}"
        put(f"{location}{'&' if '?' in location else '?'}digest={digest}", data, "application/octet-stream")
        return {"digest": digest, "size": len(data)}

    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": config_type, **blob(config)},
                "layers": [{"mediaType": t, **blob(data), **({"annotations": notes} if notes else {})}
                           for t, data, notes in layers]}
    body = json.dumps(manifest).encode()
    put(f"http://{crane_registry}/v2/{name}/manifests/{tag}", body, manifest["mediaType"])
    return f"{crane_registry}/{name}:{tag}", "sha256:" + hashlib.sha256(body).hexdigest(), manifest, body


def put_index(crane_registry, name, entries, tag="v1"):
    import urllib.request
    body = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                       "manifests": entries}).encode()
    request = urllib.request.Request(f"http://{crane_registry}/v2/{name}/manifests/{tag}", data=body, method="PUT",
                                     headers={"Content-Type": "application/vnd.oci.image.index.v1+json"})
    urllib.request.urlopen(request).close()
    return f"{crane_registry}/{name}:{tag}", "sha256:" + hashlib.sha256(body).hexdigest()


def tar_of(files, fmt="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=fmt) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_push_and_pull_our_own(store, make_wasm, crane_registry, crane, tmp_path):
    wasm = make_wasm()
    ref = f"{crane_registry}/own/hello:v1"
    pushed = store.ok("push", wasm, ref)["digest"]
    manifest = json.loads(crane("manifest", "--insecure", ref))
    assert manifest["layers"][0]["mediaType"] == "application/wasm"
    assert manifest["config"]["mediaType"] == "application/vnd.wasm.config.v0+json"
    assert crane("digest", "--insecure", ref) == pushed
    other = Store(tmp_path / "other")
    image = other.ok("pull", ref)
    assert image["digest"] == pushed
    assert image["module"] == digest_of(wasm)
    assert image["title"] == "hello.wasm"
    assert image["id"] == f"{crane_registry}/own/hello@{pushed}"
    assert other.ok("code", ref)["cached"].startswith("compiled in ")
    assert other.ok("code", ref)["cached"] == "hit"
    assert other.temp_files() == []


def test_oras_artifact(store, make_wasm, crane_registry, oras, tmp_path):
    make_wasm()
    ref = f"{crane_registry}/oras/plain:v1"
    oras("push", "--plain-http", "--artifact-type", "application/wasm", ref, "hello.wasm:application/wasm")
    assert store.ok("pull", ref)["form"] == "module"
    (tmp_path / "config.json").write_text('{"architecture":"wasm","os":"wasip1","layerDigests":["%s"]}'
                                          % digest_of(tmp_path / "hello.wasm"))
    ref = f"{crane_registry}/oras/cncf:v1"
    oras("push", "--plain-http", "--config", "config.json:application/vnd.wasm.config.v0+json", ref,
         "hello.wasm:application/wasm")
    assert store.ok("pull", ref)["title"] == "hello.wasm"
    assert store.ok("code", ref)["command"] == "1"


SINGLE = [
    ("application/vnd.wasm.config.v0+json", "application/wasm", b'{"architecture":"wasm","os":"wasip1"}'),
    ("application/vnd.wasm.config.v1+json", "application/vnd.wasm.content.layer.v1+wasm", b"{}"),
    ("application/vnd.oci.image.config.v1+json", "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
     b'{"architecture":"wasm","os":"wasip1","rootfs":{"type":"layers","diff_ids":[]}}'),
    ("application/vnd.oci.image.config.v1+json", "application/wasm", b'{"architecture":"wasm","os":"Wasip1"}'),
    ("application/vnd.oci.empty.v1+json", "application/octet-stream", b"{}"),
    ("application/x-unknown", "application/x-unknown", b"not json"),
]


@pytest.mark.parametrize("config_type,layer_type,config", SINGLE)
def test_single_layer_forms(store, make_wasm, crane_registry, config_type, layer_type, config):
    wasm = make_wasm(code=3)
    ref, digest, _, _ = push_raw(crane_registry, "single/form", config_type, [(layer_type, wasm.read_bytes(), None)], config)
    image = store.ok("pull", ref)
    assert image["digest"] == digest
    assert image["module"] == digest_of(wasm)
    assert image["title"] == "form"
    assert store.ok("code", ref)["command"] == "1"


def test_envoy_variant_with_two_layers(store, make_wasm, crane_registry):
    wasm = make_wasm()
    ref, *_ = push_raw(crane_registry, "envoy/oci", "application/vnd.module.wasm.config.v1+json",
                       [("application/vnd.module.wasm.config.v1+json", b"{}", None),
                        ("application/vnd.module.wasm.content.layer.v1+wasm", wasm.read_bytes(), None)])
    assert store.ok("pull", ref)["module"] == digest_of(wasm)


@pytest.mark.parametrize("fmt,layer_type", [("w", "application/vnd.oci.image.layer.v1.tar"),
                                            ("w:gz", "application/vnd.oci.image.layer.v1.tar+gzip"),
                                            ("w:gz", "application/vnd.docker.image.rootfs.diff.tar.gzip")])
def test_root_file_system(store, make_wasm, crane_registry, fmt, layer_type):
    wasm = make_wasm().read_bytes()
    config = {"architecture": "wasm", "os": "wasi", "config": {
        "Entrypoint": ["app.wasm"], "Cmd": ["serve"], "Env": ["PATH=/bin", "A=b"], "WorkingDir": "/srv",
        "ExposedPorts": {"8080/tcp": {}}}}
    layers = [(layer_type, tar_of([("bin/app.wasm", wasm), ("etc/old", b"1"), ("etc/keep", b"2")], fmt), None),
              (layer_type, tar_of([("etc/.wh.old", b""), ("data/x", b"3")], fmt), None)]
    ref, digest, *_ = push_raw(crane_registry, "rootfs/app", "application/vnd.oci.image.config.v1+json", layers,
                               json.dumps(config).encode())
    image = store.ok("pull", ref)
    root = pathlib.Path(image["rootfs"])
    assert image["form"] == "rootfs"
    assert image["entrypoint"] == "app.wasm"
    assert image["cmd"] == "serve"
    assert image["workdir"] == "/srv"
    assert image["port"] == "8080/tcp"
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()) == [
        "bin/app.wasm", "data/x", "etc/keep"]
    assert (root / "etc/keep").stat().st_mode & 0o777 == 0o555
    if os.geteuid() == 0:
        assert (root / "etc/keep").stat().st_uid == 64970
    code = store.ok("code", ref)
    assert code["module"] == "sha256:" + hashlib.sha256(wasm).hexdigest()
    assert "no file in the image" in store.fails("code", ref, "other.wasm")
    inode = root.stat().st_ino
    assert store.ok("--policy", "always", "pull", ref)["digest"] == digest
    assert root.stat().st_ino == inode, "a tree that is there is not unpacked again"


def test_tree_with_one_module_and_no_config(store, make_wasm, crane_registry):
    wasm = make_wasm().read_bytes()
    ref, *_ = push_raw(crane_registry, "compat/plugin", "application/vnd.oci.empty.v1+json",
                       [("application/gzip", tar_of([("plugin.wasm", wasm), ("runtime-config.json", b"{}")]), None)])
    image = store.ok("pull", ref)
    assert image["entrypoint"] == "/plugin.wasm"
    assert store.ok("code", ref)["command"] == "1"


def entry(name_digest, size, os_name=None, arch=None, **more):
    item = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": name_digest, "size": size, **more}
    if os_name:
        item["platform"] = {"os": os_name, "architecture": arch}
    return item


def test_index_choice(store, make_wasm, crane_registry):
    wasm = make_wasm().read_bytes()
    bodies = []
    for i in range(3):
        _, digest, _, body = push_raw(crane_registry, "index/app", "application/vnd.oci.image.config.v1+json",
                                      [("application/wasm", wasm, {"n": str(i)})],
                                      b'{"architecture":"wasm","os":"wasip1"}', tag=f"t{i}")
        bodies.append((digest, len(body)))
    ref, top = put_index(crane_registry, "index/app", [
        entry(*bodies[0], "unknown", "unknown", annotations={"vnd.docker.reference.type": "attestation-manifest"}),
        entry(*bodies[1], "linux", "amd64"),
        entry(*bodies[2], "wasi", "wasm")])
    assert store.ok("pull", ref)["digest"] == bodies[2][0]
    assert store.ok("pull", f"{crane_registry}/index/app@{top}")["digest"] == bodies[2][0]
    assert store.ok("pull", f"{crane_registry}/index/app:wrong@{bodies[1][0]}")["digest"] == bodies[1][0]
    ref, _ = put_index(crane_registry, "index/app", [entry(*bodies[0], "linux", "amd64"),
                                                      entry(*bodies[1], "linux", "arm64")], tag="linux")
    text = store.fails("pull", ref)
    assert text.startswith("ErrImagePull: ") and "found linux/amd64, linux/arm64" in text, text


REFUSED = [
    ("application/vnd.cncf.helm.config.v1+json", [("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"x")], "Helm chart"),
    ("application/vnd.oci.image.config.v1+json", [("application/vnd.dev.cosign.simplesigning.v1+json", b"{}")], "signature"),
    ("application/vnd.oci.image.config.v1+json", [("application/vnd.oci.image.layer.nondistributable.v1.tar", b"x")],
     "nondistributable"),
    ("application/vnd.oci.image.config.v1+json", [("application/wasm+encrypted", b"x")], "no key service"),
    ("application/vnd.wasm.config.v1+json", [("application/wasm", b"a"), ("application/wasm", b"b")], "several Wasm layers"),
    ("application/vnd.wasm.config.v0+json", [("application/wasm", b"a"), ("text/plain", b"b")], "exactly one layer"),
    ("application/vnd.oci.empty.v1+json", [("text/plain", b"hello hello hello")], "not Wasm but"),
    ("application/vnd.oci.empty.v1+json", [("text/plain", b"\x7fELF" + bytes(60))], "ELF"),
    ("application/vnd.oci.empty.v1+json", [("text/plain", b"\0asm\x02\0\0\0")], "version"),
    ("application/vnd.oci.empty.v1+json", [("text/plain", b"(module)")], "text form"),
    ("application/vnd.oci.image.config.v1+json", [("application/vnd.fermyon.spin.application.v1+config", b"{}"),
                                                  ("application/wasm", b"\0asm\1\0\0\0")], "Spin application of 1 component"),
    ("application/vnd.oci.empty.v1+json", [], "no layers"),
]


@pytest.mark.parametrize("config_type,layers,text", REFUSED)
def test_what_is_no_workload_is_named(store, crane_registry, config_type, layers, text):
    config = b'{"architecture":"wasm","os":"wasip1"}'
    ref, *_ = push_raw(crane_registry, "refused/x", config_type, [(t, d, None) for t, d in layers], config)
    message = store.fails("pull", ref)
    assert message.startswith("ErrImagePull: ") and text in message, message
    assert store.temp_files() == []


def test_wrong_platform_of_a_plain_manifest(store, crane_registry):
    ref, *_ = push_raw(crane_registry, "plain/linux", "application/vnd.oci.image.config.v1+json",
                       [("application/vnd.oci.image.layer.v1.tar+gzip", tar_of([("bin/sh", b"x")]), None)],
                       b'{"architecture":"amd64","os":"linux"}')
    assert "found linux/amd64" in store.fails("pull", ref)


def test_names_and_policies(store, make_wasm, crane_registry):
    ref = f"{crane_registry}/policy/x:v1"
    assert store.fails("pull", "Bad//Name").startswith("InvalidImageName: ")
    assert store.fails("--policy", "never", "pull", ref).startswith("ErrImageNeverPull: ")
    message = store.fails("pull", f"{crane_registry}/not/there:v1")
    assert message.startswith("ErrImagePull: ") and "404" in message, message
    assert store.fails("pull", "127.0.0.1:1/x:v1").startswith("RegistryUnavailable: ")
    store.ok("push", make_wasm(), ref)
    first = store.ok("pull", ref)["digest"]
    store.ok("push", make_wasm(code=9), ref)
    assert store.ok("pull", ref)["digest"] == first
    assert store.ok("--policy", "never", "pull", ref)["digest"] == first
    assert store.ok("--policy", "always", "pull", ref)["digest"] != first


def test_same_module_in_two_images_compiles_once(store, make_wasm, crane_registry):
    wasm = make_wasm()
    for name in ("a", "b"):
        store.ok("push", wasm, f"{crane_registry}/twice/{name}:v1")
        store.ok("pull", f"{crane_registry}/twice/{name}:v1")
    assert store.ok("code", f"{crane_registry}/twice/a:v1")["cached"].startswith("compiled")
    assert store.ok("code", f"{crane_registry}/twice/b:v1")["cached"] == "hit"


@pytest.fixture(scope="module")
def distribution(tmp_path_factory):
    """Debian's docker-registry with htpasswd: host:port; user u, password p:w."""
    if not shutil.which("docker-registry") or not shutil.which("htpasswd"):
        pytest.skip("docker-registry and htpasswd are not installed")
    folder = tmp_path_factory.mktemp("distribution")
    port = free_port()
    users = subprocess.run(["htpasswd", "-Bbn", "u", "p:w"], check=True, capture_output=True, text=True).stdout
    (folder / "users").write_text(users)
    (folder / "c.yml").write_text(f"""version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}, secret: x}}
auth: {{htpasswd: {{realm: test, path: {folder}/users}}}}
""")
    proc = run_server(["docker-registry", "serve", str(folder / "c.yml")], port)
    yield f"127.0.0.1:{port}"
    stop(proc)


def docker_config(path, *entries):
    auths = {key: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()} for key, user, password in entries}
    path.write_text(json.dumps({"auths": auths}))
    return path


def test_basic_authentication(store, make_wasm, distribution, tmp_path):
    ref = f"{distribution}/team/hello:v1"
    good = docker_config(tmp_path / "good.json", (f"http://{distribution}/v2/", "u", "p:w"))
    bad = docker_config(tmp_path / "bad.json", (distribution, "u", "wrong"))
    both = docker_config(tmp_path / "both.json", (f"{distribution}/team", "u", "wrong"), (distribution, "u", "p:w"))
    elsewhere = docker_config(tmp_path / "elsewhere.json", (f"{distribution}/other", "u", "p:w"))
    store.ok("--auth", good, "push", make_wasm(), ref)
    message = store.fails("pull", ref)
    assert message.startswith("ErrImagePull: ") and "there are none for it" in message, message
    message = store.fails("--auth", bad, "pull", ref)
    assert "were not taken" in message and "wrong" not in message, message
    assert "there are none for it" in store.fails("--auth", elsewhere, "pull", ref)
    assert store.ok("--auth", both, "pull", ref)["form"] == "module"


def test_a_private_image_is_not_given_to_just_anybody(store, make_wasm, distribution, crane_registry, tmp_path):
    ref = f"{distribution}/private/hello:v1"
    good = docker_config(tmp_path / "good.json", (distribution, "u", "p:w"))
    same = docker_config(tmp_path / "same.json", ("127.0.0.1:1", "x", "y"), (f"{distribution}/private", "u", "p:w"))
    bad = docker_config(tmp_path / "bad.json", (distribution, "u", "guess"))
    wasm = make_wasm()
    store.ok("--auth", good, "push", wasm, ref)
    store.ok("--auth", good, "pull", ref)
    assert store.ok("--auth", same, "--policy", "never", "pull", ref)["form"] == "module"
    for auth in ([], ["--auth", bad]):
        assert "401" in store.fails(*auth, "pull", ref)
        message = store.fails(*auth, "--policy", "never", "pull", ref)
        assert message.startswith("ErrImageNeverPull: ") and "does not have" in message, message
    database = (store.path / "store.db").read_bytes() + (store.path / "store.db-wal").read_bytes() \
        if (store.path / "store.db-wal").exists() else (store.path / "store.db").read_bytes()
    assert b"p:w" not in database
    public = f"{crane_registry}/public/hello:v1"
    store.ok("push", wasm, public)
    store.ok("--auth", good, "pull", public)
    assert store.ok("--policy", "never", "pull", public)["form"] == "module"


def test_layouts_and_archives(store, make_wasm, crane_registry, crane, tmp_path):
    wasm = make_wasm()
    ref = f"{crane_registry}/layout/hello:v1"
    pushed = store.ok("push", wasm, ref)["digest"]
    layout = tmp_path / "layout"
    crane("pull", "--insecure", "--format", "oci", "--annotate-ref", ref, layout)
    other = Store(tmp_path / "other")
    image = other.ok("pull", f"oci:{layout}")
    assert image["digest"] == pushed and image["id"] == f"file@{pushed}"
    assert other.ok("pull", f"oci:{layout}:v1")["digest"] == pushed
    assert "no entry named 'v2'" in other.fails("pull", f"oci:{layout}:v2")
    archive = tmp_path / "layout.tar"
    subprocess.run(["tar", "-C", str(layout), "-cf", str(archive), "."], check=True)
    assert other.ok("pull", f"oci-archive:{archive}")["digest"] == pushed
    assert other.temp_files() == []
    blob = layout / "blobs/sha256" / digest_of(wasm)[7:]
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    assert "have the digest" in Store(tmp_path / "third").fails("pull", f"oci:{layout}")


def test_sha512(store, make_wasm, tmp_path):
    wasm = make_wasm().read_bytes()
    layout = tmp_path / "layout"

    def put(data):
        hexa = hashlib.sha512(data).hexdigest()
        (layout / "blobs/sha512").mkdir(parents=True, exist_ok=True)
        (layout / "blobs/sha512" / hexa).write_bytes(data)
        return {"digest": "sha512:" + hexa, "size": len(data)}

    manifest = {"schemaVersion": 2, "config": {"mediaType": "application/vnd.wasm.config.v1+json", **put(b"{}")},
                "layers": [{"mediaType": "application/wasm", **put(wasm)}]}
    item = {"mediaType": "application/vnd.oci.image.manifest.v1+json", **put(json.dumps(manifest).encode())}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [item]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    assert store.ok("pull", f"oci:{layout}")["digest"] == item["digest"]
    assert store.ok("code", f"oci:{layout}")["module"].startswith("sha512:")
