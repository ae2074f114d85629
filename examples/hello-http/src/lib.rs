// SPDX-License-Identifier: Apache-2.0
//! A web service: `GET /` greets, `POST /shout` answers each piece of the body in capitals while it still comes in,
//! `GET /crash` dies. Each request has an instance of its own, so a crash takes nothing along but itself.
use std::io::Write;

use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::OutputStream;

wasip2::http::proxy::export!(Service);

struct Service;

/// Sends the head, then lets `body` write; a client that left is no error of ours.
fn answer(out: ResponseOutparam, status: u16, body: impl FnOnce(&mut OutputStream) -> std::io::Result<()>) {
    let fields =
        Fields::from_list(&[("content-type".into(), b"text/plain; charset=utf-8".to_vec())]).unwrap();
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).unwrap();
    let outgoing = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let mut stream = outgoing.write().unwrap();
    let written = body(&mut stream);
    drop(stream);
    if written.is_ok() {
        let _ = OutgoingBody::finish(outgoing, None);
    }
}

fn shout(request: &IncomingRequest, out: &mut OutputStream) -> std::io::Result<()> {
    let body = request.consume().unwrap();
    let stream = body.stream().unwrap();
    while let Ok(mut piece) = stream.blocking_read(65536) {
        piece.make_ascii_uppercase();
        out.write_all(&piece)?;
    }
    Ok(())
}

impl wasip2::exports::http::incoming_handler::Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        match (request.method(), path) {
            (Method::Get, "/") => answer(out, 200, |to| {
                let who = std::env::var("GREETING").unwrap_or_else(|_| "Hello".into());
                writeln!(to, "{who} from a component")
            }),
            (Method::Get, "/healthz") => answer(out, 200, |to| to.write_all(b"ok\n")),
            (Method::Post, "/shout") => answer(out, 200, |to| shout(&request, to)),
            (Method::Get, "/crash") => panic!("as you wish"),
            _ => answer(out, 404, |to| writeln!(to, "nothing at {path}")),
        }
    }
}
