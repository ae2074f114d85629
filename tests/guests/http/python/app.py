# SPDX-License-Identifier: Apache-2.0
"""A service of wasi:http 0.2 in Python: /echo streams the body back, anything else says hello."""
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.types import (Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse,
                                     ResponseOutparam)


def send(out, data: bytes) -> None:
    for at in range(0, len(data), 4096):
        out.blocking_write_and_flush(data[at:at + 4096])


def echo(request: IncomingRequest, out) -> None:
    body = request.consume()
    stream = body.stream()
    while True:
        try:
            piece = stream.blocking_read(65536)
        except Err:  # closed
            break
        send(out, piece)
    stream.__exit__(None, None, None)
    IncomingBody.finish(body)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        out = body.write()
        if (request.path_with_query() or "").startswith("/echo"):
            echo(request, out)
        else:
            send(out, b"Hello from Python\n")
        out.__exit__(None, None, None)
        OutgoingBody.finish(body, None)
