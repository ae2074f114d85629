#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An answer from C without a guest, on one core, 64 connections that stay, load from the other core; the peer is nginx
with `return 200` and the same body, one worker, no access log, in alternating runs. The smallest CPU time per request of
each counts. Then the user instructions of one such request, by callgrind: 12,000 requests less 2,000."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
import serving  # noqa: E402

QUICK = "--quick" in sys.argv
ROUNDS, SECONDS = (2, 1) if QUICK else (5, 3)
NGINX = """
daemon off; worker_processes 1; error_log stderr error; pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; tcp_nodelay on; default_type text/plain;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4;
  scgi_temp_path {folder}/5;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "Hello, world!\\n"; }} }} }}
"""


def ours() -> str:
    path = serving.build_folder() / "tests" / "tools" / "http_server"
    if not path.is_file():
        raise serving.Skip(f"no program {path}")
    return str(path)


def nginx(folder: str, port: int) -> list[str]:
    conf = pathlib.Path(folder) / f"{port}.conf"
    conf.write_text(NGINX.format(folder=folder, port=port), encoding="ascii")
    return [serving.tool("nginx"), "-p", folder, "-c", str(conf)]


def cpu_beside_nginx(folder: str) -> None:
    best: dict[str, serving.Load] = {}
    for _ in range(ROUNDS):
        for name, command in (("ours", lambda port: [ours(), "--listen", f"127.0.0.1:{port}"]),
                              ("nginx", lambda port: nginx(folder, port))):
            with serving.Server(name, command) as server:
                serving.wrk(server, 1)  # warm
                load = serving.wrk(server, SECONDS)
            if name not in best or load.cpu_us < best[name].cpu_us:
                best[name] = load
    serving.report("static_cpu_us", best["ours"].cpu_us, "us", "nginx return 200", best["nginx"].cpu_us, 0.95, "ratio",
                   rps=round(best["ours"].rate), peer_rps=round(best["nginx"].rate))


def instructions(requests: int, folder: str) -> int:
    out, port = f"{folder}/callgrind.{requests}", serving.free_port()
    server = subprocess.Popen([serving.tool("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out}", ours(),
                               "--listen", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        server.stdout.readline()  # it listens
        subprocess.run([serving.tool("h2load"), "--h1", "-c", "8", "-n", str(requests), f"http://127.0.0.1:{port}/"],
                       check=True, capture_output=True)
        time.sleep(0.5)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
    return int(re.search(r"^totals: (\d+)", pathlib.Path(out).read_text(encoding="ascii"), re.M)[1])


os.environ["PATH"] += ":/usr/sbin"
with serving.skips("static"), tempfile.TemporaryDirectory(prefix="wherry-bench-") as scratch:
    os.chmod(scratch, 0o755)  # nginx's worker has a user of its own
    cpu_beside_nginx(scratch)
    per_request = (instructions(12000, scratch) - instructions(2000, scratch)) / 10000
    serving.report("static_instructions", per_request, "instructions", goal=2500)
