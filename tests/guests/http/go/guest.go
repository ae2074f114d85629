// SPDX-License-Identifier: Apache-2.0

// Package export_wasi_http_incoming_handler is a service of wasi:http 0.2 in Go, compiled by Go itself: /echo streams
// the body back, anything else says hello. The bindings around it come from wit-bindgen.
package export_wasi_http_incoming_handler

import (
	"strings"

	witTypes "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/wasi_http_types"
	"wit_component/wasi_io_streams"
)

func send(out *wasi_io_streams.OutputStream, data []byte) bool {
	for len(data) > 0 {
		n := min(len(data), 4096)
		if result := out.BlockingWriteAndFlush(data[:n]); result.IsErr() {
			return false
		}
		data = data[n:]
	}
	return true
}

func echo(request *wasi_http_types.IncomingRequest, out *wasi_io_streams.OutputStream) {
	body := request.Consume().Ok()
	in := body.Stream().Ok()
	for {
		piece := in.BlockingRead(65536)
		if piece.IsErr() || !send(out, piece.Ok()) {
			break
		}
	}
	in.Drop()
	body.Drop()
}

// Handle answers one request.
func Handle(request *wasi_http_types.IncomingRequest, answer *wasi_http_types.ResponseOutparam) {
	fields := wasi_http_types.MakeFields()
	if fields.Append("content-type", []byte("text/plain")).IsErr() {
		panic("the host refused content-type")
	}
	response := wasi_http_types.MakeOutgoingResponse(fields)
	body := response.Body().Ok()
	wasi_http_types.ResponseOutparamSet(answer,
		witTypes.Ok[*wasi_http_types.OutgoingResponse, wasi_http_types.ErrorCode](response))
	out := body.Write().Ok()
	if strings.HasPrefix(request.PathWithQuery().SomeOr(""), "/echo") {
		echo(request, out)
	} else {
		send(out, []byte("Hello from Go\n"))
	}
	out.Drop()
	wasi_http_types.OutgoingBodyFinish(body, witTypes.None[*wasi_http_types.Fields]())
	request.Drop()
}
