// SPDX-License-Identifier: Apache-2.0
//! The smallest service of wasi:http 0.2: what the benchmarks measure.
use std::io::Write;

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wasip2::http::proxy::export!(Hello);

struct Hello;

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
        let fields = Fields::from_list(&[("content-type".into(), b"text/plain".to_vec())]).unwrap();
        let response = OutgoingResponse::new(fields);
        let body = response.body().unwrap();
        ResponseOutparam::set(answer, Ok(response));
        let mut stream = body.write().unwrap();
        stream.write_all(b"Hello from a component\n").unwrap();
        drop(stream);
        OutgoingBody::finish(body, None).unwrap();
    }
}
