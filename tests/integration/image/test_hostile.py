# SPDX-License-Identifier: Apache-2.0
"""A registry that lies, stalls, floods and leads astray: each time a clear error, nothing kept, nothing given away."""
import base64
import io
import json
import os
import pathlib
import socket
import ssl
import subprocess
import tarfile
import threading
import time

import pytest

from hostile import MANIFEST, Hostile, sha
from image_tools import Store

BIG = 1 << 18


@pytest.fixture
def evil():
    registry = Hostile()
    yield registry
    registry.close()


@pytest.fixture
def other():
    registry = Hostile()
    yield registry
    registry.close()


@pytest.fixture
def module(make_wasm):
    """A module that is larger than one read: a custom section of zeros behind it."""
    body = bytes([1, ord("z")]) + bytes(BIG)
    size, leb = len(body), b""
    while True:
        leb += bytes([(size & 0x7f) | (0x80 if size > 0x7f else 0)])
        size >>= 7
        if not size:
            break
    return make_wasm().read_bytes() + b"\0" + leb + body


def blob_path(data, name="x"):
    return f"/v2/{name}/blobs/{sha(data)}"


def config_file(tmp_path, auths):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": auths}))
    return path


def user(name, password):
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


def clean(store):
    assert store.temp_files() == []
    assert "libcurl" not in os.environ


# ---- what is sent is not what was promised ----

def test_truncated_blob_is_resumed(store, evil, module):
    ref = evil.image(module)

    def half(h):
        start = int(h.headers.get("Range", "bytes=0-").split("=")[1].rstrip("-"))
        if start == 0:
            h.answer(200, {"Content-Length": str(len(module))}, module[:1000])
            h.close_connection = True
        else:
            h.answer(206, {"Content-Range": f"bytes {start}-{len(module) - 1}/{len(module)}"}, module[start:])

    evil.routes[blob_path(module)] = half
    store.ok("pull", ref)
    assert evil.asked("/blobs/" + sha(module))[1][2]["Range"] == "bytes=1000-"


def test_ignored_range_starts_again(store, evil, module):
    ref, calls = evil.image(module), []

    def broken(h):
        calls.append(1)
        h.answer(200, {"Content-Length": str(len(module))}, module[:5000] if len(calls) == 1 else module)
        h.close_connection = True

    evil.routes[blob_path(module)] = broken
    assert store.ok("pull", ref)["module"] == sha(module)
    assert len(calls) == 2


def test_wrong_range_is_refused(store, evil, module):
    ref, calls = evil.image(module), []

    def wrong(h):
        calls.append(1)
        if len(calls) == 1:
            h.answer(200, {"Content-Length": str(len(module))}, module[:5000])
            h.close_connection = True
        else:
            h.answer(206, {"Content-Range": f"bytes 0-{len(module) - 1}/{len(module)}"}, module)

    evil.routes[blob_path(module)] = wrong
    assert "another range" in store.fails("pull", ref)
    clean(store)


def test_blob_that_always_breaks(store, evil, module):
    ref = evil.image(module)

    def broken(h):
        h.answer(200, {"Content-Length": str(len(module))}, b"")
        h.close_connection = True

    evil.routes[blob_path(module)] = broken
    assert store.fails("pull", ref).startswith("RegistryUnavailable: ")
    assert len(evil.asked("/blobs/" + sha(module))) == 5
    clean(store)


def test_wrong_digest(store, evil, module):
    ref = evil.image(module)
    evil.routes[blob_path(module)] = (200, {}, module[:-1] + b"\1")
    message = store.fails("pull", ref)
    assert message.startswith("ErrImagePull: ") and "have the digest" in message, message
    assert not (store.path / "blobs/sha256" / sha(module)[7:]).exists()
    clean(store)


@pytest.mark.parametrize("cut", [-1, 1])
def test_wrong_size(store, evil, module, cut):
    ref = evil.image(module)
    evil.routes[blob_path(module)] = (200, {}, module + b"\0" if cut == 1 else module[:-1])
    message = store.fails("pull", ref)
    assert ("longer than the" if cut == 1 else "ends after") in message, message
    clean(store)


def test_endless_body(store, evil, module):
    ref, sent = evil.image(module), []

    def endless(h):
        h.send_response(200)
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        chunk = bytes(65536)
        try:
            while len(sent) < 10000:
                h.wfile.write(b"10000\r\n" + chunk + b"\r\n")
                sent.append(1)
        except OSError:
            pass
        h.close_connection = True

    evil.routes[blob_path(module)] = endless
    assert "longer than the" in store.fails("pull", ref)
    assert len(sent) < 1000
    clean(store)


def test_digest_reference_with_other_bytes(store, evil, module):
    ref = evil.image(module)
    wanted = sha(b"something else")
    evil.routes[f"/v2/x/manifests/{wanted}"] = evil.routes["/v2/x/manifests/v1"]
    assert f"asked for {wanted}" in store.fails("pull", f"{ref.rsplit(':', 1)[0]}@{wanted}")


def test_digest_header_is_only_a_hint(store, evil, module):
    evil.image(module)
    status, headers, body = evil.routes["/v2/x/manifests/v1"]
    evil.routes["/v2/x/manifests/v1"] = (status, {**headers, "Docker-Content-Digest": sha(b"lie")}, body)
    assert store.ok("pull", f"{evil.host}/x:v1")["digest"] == sha(body)


# ---- manifests ----

def layers(n, module):
    return [{"mediaType": "application/wasm", "digest": sha(module), "size": len(module)}] * n


@pytest.mark.parametrize("make,text", [
    (lambda m: b'{"schemaVersion":2,' + b" " * (4 << 20) + b"}", "longer than"),
    (lambda m: {"schemaVersion": 2, "config": {"mediaType": "a/b", "digest": sha(b""), "size": 0}, "layers": layers(513, m)}, "513"),
    (lambda m: b'{"schemaVersion":2,"layers":[],"layers":[]}', "manifest"),
    (lambda m: b"[" * 1000, "manifest"),
    (lambda m: b"<html>", "manifest"),
    (lambda m: {"schemaVersion": 1, "name": "x"}, "schema 1"),
    (lambda m: {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}, "do not agree"),
    (lambda m: {"schemaVersion": 2, "config": {"mediaType": "a/b", "digest": "md5:00", "size": 0}, "layers": []}, "digest"),
    (lambda m: {"schemaVersion": 2, "config": {"mediaType": "a/b", "digest": sha(b""), "size": -1}, "layers": []}, "size"),
    (lambda m: {"schemaVersion": 2, "config": {"mediaType": "a/b", "digest": sha(b""), "size": 0},
                "layers": [{"mediaType": "application/wasm", "digest": sha(m), "size": 300 << 20}]}, "are allowed"),
    (lambda m: {"schemaVersion": 2, "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": sha(b""),
                                               "size": 5 << 20}, "layers": layers(1, m)}, "the config has"),
])
def test_bad_manifests(store, evil, module, make, text):
    ref, _ = evil.manifest(make(module))
    message = store.fails("pull", ref)
    assert message.startswith("ErrImagePull: ") and text in message, message
    assert len(evil.seen) == 1, "nothing else is asked for"
    clean(store)


def test_index_limits_and_nesting(store, evil, module):
    index = "application/vnd.oci.image.index.v1+json"
    evil.image(module)
    body = evil.routes["/v2/x/manifests/v1"][2]
    entry = {"mediaType": MANIFEST, "digest": sha(body), "size": len(body), "platform": {"os": "wasi", "architecture": "wasm"}}
    ref, _ = evil.manifest({"schemaVersion": 2, "manifests": [entry] * 256}, tag="i256", content_type=index)
    store.ok("pull", ref)
    ref, _ = evil.manifest({"schemaVersion": 2, "manifests": [entry] * 257}, tag="i257", content_type=index)
    assert "257" in store.fails("pull", ref)
    inner = evil.manifest({"schemaVersion": 2, "manifests": [entry]}, tag="inner", content_type=index)[1]
    entry = {**entry, "digest": inner}
    ref, _ = evil.manifest({"schemaVersion": 2, "manifests": [entry]}, tag="outer", content_type=index)
    assert "index within an index" in store.fails("pull", ref)


def test_layer_digests_of_the_config_must_match(store, evil, module):
    config = json.dumps({"architecture": "wasm", "os": "wasip1", "layerDigests": [sha(b"x")]}).encode()
    ref = evil.image(module, config=config, config_type="application/vnd.wasm.config.v0+json")
    assert "layerDigests" in store.fails("pull", ref)


# ---- authentication ----

def token_server(evil, where="/token", realm=None, answer=None, secret="T1"):
    def protect(route):
        def guarded(h):
            if h.headers.get("Authorization") == f"Bearer {secret}":
                route(h) if callable(route) else h.answer(*route)
            else:
                h.answer(401, {"WWW-Authenticate": f'Bearer realm="{realm or f"http://{evil.host}{where}"}",service="svc",'
                                                    'scope="repository:x:pull"'}, b"")
        return guarded
    for path in list(evil.routes):
        if path.startswith("/v2/"):
            evil.routes[path] = protect(evil.routes[path])
    evil.routes[where] = (200, {"Content-Type": "application/json"},
                          json.dumps(answer or {"token": secret, "expires_in": 300}).encode())


def test_anonymous_token(store, evil, module):
    ref = evil.image(module)
    token_server(evil)
    store.ok("pull", ref)
    asked = evil.asked("/token")
    assert len(asked) == 1, "the token is kept for the whole pull"
    assert "service=svc" in asked[0][1] and "scope=repository%3Ax%3Apull" in asked[0][1]
    assert "Authorization" not in asked[0][2]


def test_token_with_basic_and_access_token(store, evil, module, tmp_path):
    ref = evil.image(module)
    token_server(evil, answer={"access_token": "T1"})
    store.ok("--auth", config_file(tmp_path, {evil.host: user("me", "s3cret")}), "pull", ref)
    assert evil.asked("/token")[0][2]["Authorization"] == "Basic " + base64.b64encode(b"me:s3cret").decode()
    assert all("Basic" not in e[2].get("Authorization", "") for e in evil.asked("/v2/"))


def test_refresh_token(store, evil, module, tmp_path):
    ref = evil.image(module)
    token_server(evil, answer={"access_token": "T1"})
    store.ok("--auth", config_file(tmp_path, {evil.host: {"identitytoken": "ident/+&"}}), "pull", ref)
    method, _, _, body = evil.asked("/token")[0]
    assert method == "POST"
    assert body == (b"service=svc&scope=repository%3Ax%3Apull&grant_type=refresh_token&client_id=wherry"
                    b"&refresh_token=ident%2F%2B%26")


def test_endless_401(store, evil, module):
    ref = evil.image(module)
    token_server(evil, answer={"token": "not the right one"})
    message = store.fails("pull", ref)
    assert message.startswith("ErrImagePull: ") and "401" in message, message
    assert len(evil.asked("/token")) == 1
    assert "not the right one" not in message


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"token":5}', b'{"token":"a\\r\\nX: y"}', b"x" * 70000])
def test_bad_token_answers(store, evil, module, answer):
    ref = evil.image(module)
    token_server(evil)
    evil.routes["/token"] = (200, {}, answer)
    assert store.fails("pull", ref).startswith("ErrImagePull: ")


@pytest.mark.parametrize("challenge", ["", "Bearer", 'Bearer realm="', "Negotiate abc", 'Bearer realm="x' + "y" * 9000 + '"',
                                       'Bearer realm="ftp://127.0.0.1/"', 'Bearer realm="http://u:p@127.0.0.1/"'])
def test_bad_challenges(store, evil, module, challenge):
    ref = evil.image(module)
    evil.routes["/v2/x/manifests/v1"] = (401, {"WWW-Authenticate": challenge} if challenge else {}, b"")
    assert store.fails("pull", ref).startswith("ErrImagePull: ")


@pytest.mark.parametrize("realm", ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://0.0.0.0:1/",
                                   "http://[fd00:ec2::254]/", "http://[::ffff:169.254.169.254]/"])
def test_realm_at_link_local_is_not_dialled(store, evil, module, realm):
    ref = evil.image(module)
    token_server(evil, realm=realm)
    began = time.monotonic()
    message = store.fails("pull", ref)
    assert message.startswith("ErrImagePull: ") and "no business" in message, message
    assert time.monotonic() - began < 5


def test_error_words_of_the_registry_are_passed_on_clean(store, evil):
    message = store.fails("pull", f"{evil.host}/nothing:here")
    assert "404: MANIFEST_UNKNOWN: no such? thing" in message, message
    assert "\x07" not in message


def test_two_credentials_in_order(store, evil, module, tmp_path):
    ref = evil.image(module, name="team/x")
    inner = dict(evil.routes)

    def guarded(path):
        def check(h):
            if h.headers.get("Authorization") == "Basic " + base64.b64encode(b"b:2").decode():
                h.answer(*inner[path])
            else:
                h.answer(401, {"WWW-Authenticate": 'Basic realm="r"'}, b"")
        return check
    for path in inner:
        evil.routes[path] = guarded(path)
    auth = config_file(tmp_path, {evil.host: user("b", "2"), f"{evil.host}/team": user("a", "1"),
                                  f"{evil.host}/tea": user("never", "0"), "127.0.0.1": user("other-port", "0")})
    store.ok("--auth", auth, "pull", ref)
    used = [base64.b64decode(e[2]["Authorization"][6:]) for e in evil.seen if "Authorization" in e[2]]
    assert used[0] == b"a:1" and b"other-port:0" not in used and used[-1] == b"b:2"


# ---- redirects ----

def test_no_authorization_across_hosts(store, evil, other, module):
    ref = evil.image(module)
    evil.routes[blob_path(module)] = (307, {"Location": f"http://localhost:{other.port}/cdn?sig=SECRET"}, b"")
    other.routes["/cdn"] = (200, {}, module)
    token_server(evil)
    store.ok("pull", ref)
    assert evil.asked("/blobs/")[-1][2]["Authorization"] == "Bearer T1"
    assert other.seen and all("Authorization" not in e[2] for e in other.seen)


def test_redirect_loop_and_secret_query(store, evil, module):
    ref = evil.image(module)
    evil.routes[blob_path(module)] = (307, {"Location": blob_path(module) + "?sig=SECRET"}, b"")
    message = store.fails("pull", ref)
    assert "redirects" in message and "SECRET" not in message
    assert len(evil.asked("/blobs/" + sha(module))) == 11


@pytest.mark.parametrize("target", ["http://169.254.169.254/x?sig=SECRET", "file:///etc/passwd", "gopher://127.0.0.1/"])
def test_redirect_to_forbidden_places(store, evil, module, target):
    ref = evil.image(module)
    evil.routes[blob_path(module)] = (302, {"Location": target}, b"")
    message = store.fails("pull", ref)
    assert message.startswith("ErrImagePull: ") and "SECRET" not in message, message
    clean(store)


# ---- busy registries ----

def test_429_with_retry_after(store, evil, module):
    ref, calls = evil.image(module), []
    route = evil.routes["/v2/x/manifests/v1"]

    def busy(h):
        calls.append(time.monotonic())
        h.answer(*(route if len(calls) > 1 else (429, {"Retry-After": "1"}, b"")))

    evil.routes["/v2/x/manifests/v1"] = busy
    store.ok("pull", ref)
    assert calls[1] - calls[0] >= 0.95


def test_429_for_too_long(store, evil, module):
    ref = evil.image(module)
    evil.routes["/v2/x/manifests/v1"] = (429, {"Retry-After": "3600"}, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"m"}]}')
    began = time.monotonic()
    message = store.fails("pull", ref)
    assert "TOOMANYREQUESTS" in message and time.monotonic() - began < 5


def test_5xx_is_tried_again(store, evil, module):
    ref, calls = evil.image(module), []
    route = evil.routes["/v2/x/manifests/v1"]

    def sick(h):
        calls.append(1)
        h.answer(*(route if len(calls) > 2 else (503, {}, b"")))

    evil.routes["/v2/x/manifests/v1"] = sick
    store.ok("pull", ref)
    assert len(calls) == 3


def test_404_and_403_are_final(store, evil, module):
    ref = evil.image(module)
    for status in (403, 404):
        evil.seen.clear()
        evil.routes["/v2/x/manifests/v1"] = (status, {}, b"")
        assert store.fails("pull", ref).startswith("ErrImagePull: ")
        assert len(evil.seen) == 1


# ---- TLS, mirrors, configuration ----

def test_plain_http_is_not_a_fallback(store, tmp_path, evil):
    """A host that is not loopback is spoken to in TLS, and nobody falls back when that fails."""
    registries = tmp_path / "registries.yaml"
    registries.write_text(json.dumps({"registries": {"registry.invalid:5000": {"mirrors": [f"https://{evil.host}"]}}}))
    message = store.fails("--registries", registries, "pull", "registry.invalid:5000/x:v1")
    assert evil.seen == [], message


def test_mirror_first_then_the_registry(store, evil, other, module, tmp_path):
    ref = other.image(module)
    registries = tmp_path / "registries.yaml"
    registries.write_text(f'registries:\n  "{other.host}":\n    mirrors: ["http://{evil.host}/prefix"]\n')
    store.ok("--registries", registries, "pull", ref)
    assert evil.asked("/prefix/v2/x/manifests/v1")
    evil.image(module)
    for path in list(evil.routes):
        evil.routes["/prefix" + path] = evil.routes.pop(path)
    other.seen.clear()
    fresh = Store(tmp_path / "fresh")
    fresh.ok("--registries", registries, "pull", ref)
    assert other.seen == []


@pytest.mark.parametrize("text", ["registries: []", "registries:\n  x:\n    insecure: true\n", "{", "a: 1\n---\nb: 2\n",
                                  "registries:\n  x:\n    mirrors: [ftp://x]\n"])
def test_bad_registries_file(store, tmp_path, text):
    path = tmp_path / "registries.yaml"
    path.write_text(text)
    assert "registries.yaml" in store.fails("--registries", path, "pull", "127.0.0.1:1/x:v1")


def test_stalling_server_is_left_when_it_hangs_up(store, module):
    """A server that accepts and says nothing: bounded by the connection, not by us waiting for ever."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(8)

        def serve():
            try:
                while True:
                    connection, _ = s.accept()
                    connection.recv(1000)
                    connection.close()
            except OSError:
                pass
        threading.Thread(target=serve, daemon=True).start()
        assert store.fails("pull", f"127.0.0.1:{s.getsockname()[1]}/x:v1").startswith("RegistryUnavailable: ")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A private CA: (its PEM, a server context for 127.0.0.1 and localhost)."""
    folder = tmp_path_factory.mktemp("ca")
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out",
            "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "s.key", "-out", "s.csr",
            "-subj", "/CN=server")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl("x509", "-req", "-in", "s.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "s.pem",
            "-days", "2", "-extfile", "ext")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "s.pem", folder / "s.key")
    return folder / "ca.pem", context


@pytest.fixture
def secure(authority):
    registry = Hostile(authority[1])
    yield registry
    registry.close()


def trusting(tmp_path, host, ca):
    path = tmp_path / "registries.yaml"
    path.write_text(f'registries:\n  "{host}":\n    caFile: {ca}\n')
    return path


def test_private_authority(store, secure, module, tmp_path, authority):
    ref = secure.image(module)
    assert store.ok("--registries", trusting(tmp_path, secure.host, authority[0]), "pull", ref)["form"] == "module"
    mirror = tmp_path / "mirror.yaml"
    mirror.write_text(f'registries:\n  "r.invalid":\n    mirrors: ["https://{secure.host}"]\n')
    message = Store(tmp_path / "other").fails("--registries", mirror, "pull", "r.invalid/x:v1")
    assert "not known" in message, "an unknown authority is not trusted, and the registry itself does not exist"


def test_unknown_authority_is_refused(store, secure, module, tmp_path):
    ref = secure.image(module)
    own = tmp_path / "system.pem"
    own.write_bytes(pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_bytes())
    message = store.fails("--registries", trusting(tmp_path, secure.host, own), "pull", ref)
    assert message.startswith("ErrImagePull: ") and "TLS" in message, message
    assert secure.seen == []


def test_https_never_leads_to_http(store, secure, evil, module, tmp_path, authority):
    registries = trusting(tmp_path, secure.host, authority[0])
    ref = secure.image(module)
    secure.routes[blob_path(module)] = (307, {"Location": f"http://{evil.host}/cdn"}, b"")
    assert "not https" in store.fails("--registries", registries, "pull", ref)
    token_server(secure, realm=f"http://{evil.host}/token")
    assert "not https" in store.fails("--registries", registries, "pull", ref)
    assert evil.seen == []


# ---- archives ----

TAR = "application/vnd.oci.image.layer.v1.tar"


def tar_bytes(*members, mode="w"):
    """members: (name, type, data or link target)"""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as tar:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def rootfs(evil, *archives, layer_type=TAR):
    config = b'{"architecture":"wasm","os":"wasi","config":{"Entrypoint":["/a.wasm"]}}'
    return evil.manifest({"schemaVersion": 2, "mediaType": MANIFEST,
                          "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **evil.blob(config)},
                          "layers": [{"mediaType": layer_type, **evil.blob(a)} for a in archives]})[0]


REG, SYM, LNK, CHR, FIFO, DIR = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE,
                                 tarfile.DIRTYPE)


@pytest.mark.parametrize("members,text", [
    ([("../evil", REG, b"x")], "'..'"),
    ([("a/../../evil", REG, b"x")], "'..'"),
    ([("/tmp/evil", REG, b"x")], "absolute"),
    ([("out", SYM, "/tmp"), ("out/evil", REG, b"x")], "through a symbolic link"),
    ([("d", DIR, b""), ("d/up", SYM, "../.."), ("d/up/evil", REG, b"x")], "through a symbolic link"),
    ([("hosts", LNK, "../../etc/hosts")], "'..'"),
    ([("hosts", LNK, "/etc/hosts")], "absolute"),
    ([("out", SYM, "/etc"), ("hosts", LNK, "out/hosts")], "not in the tree"),
    ([("null", CHR, b"")], "device"),
    ([("pipe", FIFO, b"")], "device"),
    ([("x" * 300, REG, b"x")], "too long"),
    ([("/".join("d" * 300), REG, b"x")], "too deep"),
    ([("f", REG, b"x"), ("f/g", REG, b"y")], "through a file"),
])
def test_archives_that_lead_out(store, evil, members, text):
    message = store.fails("pull", rootfs(evil, tar_bytes(*members)))
    assert message.startswith("ErrImagePull: ") and text in message, message
    assert not os.path.exists("/tmp/evil")
    assert list((store.path / "rootfs").iterdir()) == []
    clean(store)


def test_links_across_layers_are_not_followed(store, evil):
    first, second = tar_bytes(("etc", SYM, "/etc")), tar_bytes(("etc/passwd", REG, b"x"))
    assert "through a symbolic link" in store.fails("pull", rootfs(evil, first, second))


def test_bomb_by_ratio(store, evil):
    bomb = tar_bytes(("zero", REG, bytes(64 << 20)), mode="w:gz")
    message = store.fails("pull", rootfs(evil, bomb, layer_type=TAR + "+gzip"))
    assert "times its size" in message, message
    clean(store)


def test_bomb_by_sparse_file(store, evil):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("sparse")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "sparse",
                            "GNU.sparse.realsize": str(1 << 50)}
        data = b"1\n" + str((1 << 50) - 1).encode() + b"\n1\n"
        data += bytes(512 - len(data)) + b"x"
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    message = store.fails("pull", rootfs(evil, out.getvalue()))
    assert message.startswith("ErrImagePull: "), message
    clean(store)


def test_damaged_archives(store, evil):
    good = tar_bytes(("a", REG, bytes(100000)), mode="w:gz")
    for name, bad in (("cut", good[:len(good) // 2]), ("flip", good[:40] + b"\xff" + good[41:]), ("text", b"hello" * 200)):
        message = store.fails("pull", rootfs(evil, bad, layer_type=TAR + "+gzip"))
        assert "damaged archive" in message, (name, message)
    clean(store)


def test_archive_with_everything_that_is_fine(store, evil, make_wasm):
    wasm = make_wasm().read_bytes()
    first = tar_bytes(("./", DIR, b""), ("a.wasm", REG, wasm), ("dir/sub/f", REG, b"1"), ("l", SYM, "../../outside"),
                      ("h", LNK, "dir/sub/f"), ("\u00fcml\u00e4ut", REG, b"2"), ("gone/x", REG, b"3"), ("opq/old", REG, b"4"))
    second = tar_bytes((".wh.gone", REG, b""), ("opq/new", REG, b"5"), ("opq/.wh..wh..opq", REG, b""), ("dir", SYM, "l"))
    image = store.ok("pull", rootfs(evil, first, second))
    root = image["rootfs"]
    assert sorted(os.listdir(root)) == ["a.wasm", "dir", "h", "l", "opq", "\u00fcml\u00e4ut"]
    assert os.listdir(root + "/opq") == ["new"]
    assert os.readlink(root + "/l") == "../../outside" and os.readlink(root + "/dir") == "l"
    assert store.ok("code", f"{evil.host}/x:v1")["command"] == "1"
