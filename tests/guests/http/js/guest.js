// SPDX-License-Identifier: Apache-2.0
// A service of wasi:http 0.2 in JavaScript: /echo streams the body back, anything else says hello.
import {
    Fields, IncomingBody, OutgoingBody, OutgoingResponse, ResponseOutparam,
} from 'wasi:http/types@0.2.10';

function send(out, bytes) {
    for (let at = 0; at < bytes.length; at += 4096)
        out.blockingWriteAndFlush(bytes.subarray(at, at + 4096));
}

function echo(request, out) {
    const body = request.consume();
    const input = body.stream();
    for (;;) {
        let piece;
        try {
            piece = input.blockingRead(65536n);
        } catch (error) {
            if (error.payload?.tag === 'closed' || error.tag === 'closed') break;
            throw error;
        }
        send(out, piece);
    }
    input[Symbol.dispose]();
    IncomingBody.finish(body);
}

export const incomingHandler = {
    handle(request, answer) {
        const response = new OutgoingResponse(
            Fields.fromList([['content-type', new TextEncoder().encode('text/plain')]]));
        const body = response.body();
        ResponseOutparam.set(answer, { tag: 'ok', val: response });
        const out = body.write();
        if (request.pathWithQuery()?.startsWith('/echo')) echo(request, out);
        else send(out, new TextEncoder().encode('Hello from JavaScript\n'));
        out[Symbol.dispose]();
        OutgoingBody.finish(body, undefined);
    },
};
