// SPDX-License-Identifier: Apache-2.0
//! The smallest service of wasi:http 0.3: what the benchmarks measure.
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_future, wit_stream};

wasip3::http::service::export!(Hello);

struct Hello;

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let fields = Fields::from_list(&[("content-type".into(), b"text/plain".to_vec())]).unwrap();
        let (mut body, body_reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(fields, Some(body_reader), trailers_reader);
        wit_bindgen::spawn_local(async move {
            body.write_all(b"Hello from a component\n".to_vec()).await;
            drop(trailers);
        });
        Ok(response)
    }
}
