# SPDX-License-Identifier: Apache-2.0
"""A registry that does what registries must not: a table of answers, and a record of what it was asked."""
import hashlib
import http.server
import json
import threading

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def sha(data, algorithm="sha256"):
    return f"{algorithm}:" + hashlib.new(algorithm, data).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients that hang up are what these tests are about."""


class Hostile:
    """routes: path (without query) -> function(handler), or (status, headers, body)."""

    def __init__(self, tls=None):
        self.routes = {}
        self.seen = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                self.body = self.rfile.read(length)
                path = self.path.split("?", 1)[0]
                owner.seen.append((self.command, self.path, dict(self.headers), self.body))
                route = owner.routes.get(path)
                if route is None:
                    self.answer(404, {"Content-Type": "application/json"},
                                b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such\\u0007 thing"}]}')
                elif callable(route):
                    route(self)
                else:
                    self.answer(*route)

            do_GET = do_HEAD = do_POST = do_PUT = handle_any

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def blob(self, data, name="x"):
        self.routes[f"/v2/{name}/blobs/{sha(data)}"] = (200, {"Content-Type": "application/octet-stream"}, data)
        return {"digest": sha(data), "size": len(data)}

    def manifest(self, body, name="x", tag="v1", content_type=MANIFEST, headers=None):
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        route = (200, {"Content-Type": content_type, **(headers or {})}, body)
        self.routes[f"/v2/{name}/manifests/{tag}"] = route
        self.routes[f"/v2/{name}/manifests/{sha(body)}"] = route
        return f"{self.host}/{name}:{tag}", sha(body)

    def image(self, wasm, name="x", layer_type="application/wasm", config=b"{}",
              config_type="application/vnd.wasm.config.v1+json"):
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                    "config": {"mediaType": config_type, **self.blob(config, name)},
                    "layers": [{"mediaType": layer_type, **self.blob(wasm, name)}]}
        return self.manifest(manifest, name)[0]

    def asked(self, part):
        return [entry for entry in self.seen if part in entry[1]]
