// SPDX-License-Identifier: Apache-2.0
//! One service of wasi:http 0.2 that does, by path, whatever a test asks for.
use std::io::{Read, Write};
use std::time::Duration;

use shared::{BAD_FIELDS, CHUNK, Digest, MIB, Target};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, FutureTrailers, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

wasip2::http::proxy::export!(Many);

struct Many;

/// An answer whose head is on its way.
struct Answer {
    body: OutgoingBody,
    stream: OutputStream,
}

impl Answer {
    fn begin(out: ResponseOutparam, status: u16, fields: &[(&str, &[u8])]) -> Self {
        let list: Vec<_> = fields.iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect();
        let response = OutgoingResponse::new(Fields::from_list(&list).unwrap());
        response.set_status_code(status).unwrap();
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().unwrap();
        Answer { body, stream }
    }

    /// False: the client is gone.
    fn send(&mut self, data: &[u8]) -> bool {
        self.stream.write_all(data).is_ok()
    }

    fn end(self, trailers: Option<&[(&str, &[u8])]>) -> Result<(), String> {
        drop(self.stream);
        let fields = trailers.map(|list| {
            let list: Vec<_> = list.iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect();
            Fields::from_list(&list).unwrap()
        });
        OutgoingBody::finish(self.body, fields).map_err(|error| format!("{error:?}"))
    }
}

fn text(out: ResponseOutparam, status: u16, body: &str) {
    let mut answer = Answer::begin(out, status, &[("content-type", b"text/plain")]);
    answer.send(body.as_bytes());
    let _ = answer.end(None);
}

/// Calls `each` with every piece of the body; it says whether to go on. The error of a body that broke off.
fn read_all(body: &IncomingBody, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), String> {
    let stream = body.stream().unwrap();
    loop {
        match stream.blocking_read(CHUNK as u64) {
            Ok(piece) => {
                if !each(&piece) {
                    return Ok(());
                }
            }
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

fn trailers_of(future: FutureTrailers) -> Result<Vec<(String, Vec<u8>)>, String> {
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(Some(fields)))) => Ok(fields.entries()),
        Some(Ok(Ok(None))) => Ok(Vec::new()),
        Some(Ok(Err(error))) => Err(format!("{error:?}")),
        other => Err(format!("{:?}", other.is_some())),
    }
}

fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let kind = request.headers().get("content-type").into_iter().next();
    let kind = kind.as_deref().unwrap_or(b"application/octet-stream");
    let announced = request.headers().get("trailer").into_iter().next();
    let mut fields = vec![("content-type", kind)];
    fields.extend(announced.as_deref().map(|names| ("trailer", names)));
    let body = request.consume().unwrap();
    let mut answer = Answer::begin(out, 200, &fields);
    let whole = read_all(&body, |piece| answer.send(piece));
    assert!(whole.is_ok(), "the request body broke off: {whole:?}");
    let trailers = trailers_of(IncomingBody::finish(body)).unwrap();
    let trailers: Vec<_> = trailers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let _ = answer.end(if trailers.is_empty() { None } else { Some(&trailers) });
}

/// The same without a byte in the guest's memory.
fn splice(request: IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().unwrap();
    let answer = Answer::begin(out, 200, &[]);
    let stream = body.stream().unwrap();
    while answer.stream.blocking_splice(&stream, MIB as u64).is_ok() {}
    drop(stream);
    let _ = answer.end(None);
}

fn sink(target: &Target, request: IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().unwrap();
    let mut digest = Digest::new();
    let mut bytes = 0;
    let sum = target.path == "/digest";
    let whole = read_all(&body, |piece| {
        bytes += piece.len();
        if sum {
            digest.add(piece);
        }
        true
    });
    match whole {
        Ok(()) if sum => text(out, 200, &digest.line()),
        Ok(()) => text(out, 200, &format!("{bytes}\n")),
        Err(error) => text(out, 400, &format!("{bytes} bytes, then {error}\n")),
    }
}

fn big(target: &Target, out: ResponseOutparam) {
    let bytes = target.number("bytes", target.number("mib", 100) * MIB as u64) as usize;
    let length = bytes.to_string();
    let told: &[(&str, &[u8])] = &[("content-length", length.as_bytes())];
    let mut answer = Answer::begin(out, 200, if target.text("chunked").is_some() { &[] } else { told });
    let pattern = shared::pattern();
    let mut sent = 0;
    while sent < bytes {
        let n = CHUNK.min(bytes - sent);
        if !answer.send(shared::pattern_at(&pattern, sent, n)) {
            eprintln!("the client left after {sent} bytes");
            return;
        }
        sent += n;
    }
    let _ = answer.end(None);
}

fn slow(target: &Target, out: ResponseOutparam) {
    let mut answer = Answer::begin(out, 200, &[("content-type", b"text/event-stream")]);
    for i in 0..target.number("chunks", 5) {
        if !answer.send(format!("data: {i}\n\n").as_bytes()) || answer.stream.flush().is_err() {
            eprintln!("the client left after {i} chunks");
            return;
        }
        std::thread::sleep(Duration::from_millis(target.number("ms", 20)));
    }
    let _ = answer.end(None);
}

fn bad_fields(out: ResponseOutparam) {
    let mut lines = String::new();
    for (what, name, value) in BAD_FIELDS {
        let one = Fields::from_list(&[(name.to_string(), value.to_vec())]).err();
        let fields = Fields::new();
        let two = fields.append(name, value).err();
        lines += &format!("{what}: {one:?} {two:?}\n");
    }
    text(out, 200, &lines);
}

/// More or fewer bytes than the length it told.
fn lie(target: &Target, out: ResponseOutparam) {
    let length = target.number("told", 5).to_string();
    let mut answer = Answer::begin(out, 200, &[("content-length", length.as_bytes())]);
    let sent = answer.send(&vec![b'x'; target.number("sent", 10) as usize]);
    let flushed = answer.stream.flush().is_ok();
    let ended = answer.end(None);
    println!("sent {sent} flushed {flushed} ended {ended:?}");
}

fn write_after_end(out: ResponseOutparam) {
    let Answer { body, mut stream } = Answer::begin(out, 200, &[]);
    stream.write_all(b"before\n").unwrap();
    // The stream is a child of the body: the host must refuse this, or the write behind it.
    let ended = OutgoingBody::finish(body, None);
    let after = stream.write_all(b"after\n");
    println!("ended {ended:?}, then {after:?}");
}

fn trap_after(target: &Target, out: ResponseOutparam) {
    let mut answer = Answer::begin(out, 200, &[]);
    answer.send(&vec![b'x'; target.number("bytes", 10) as usize]);
    let _ = answer.stream.flush();
    panic!("asked to trap after the head");
}

fn two_answers(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume();
    let again = request.consume();
    text(out, 200, &format!("{} {}\n", body.is_ok(), again.is_ok()));
}

fn method_from(text: &Method) -> Method {
    match text {
        Method::Get => Method::Get,
        Method::Head => Method::Head,
        Method::Post => Method::Post,
        Method::Put => Method::Put,
        Method::Delete => Method::Delete,
        Method::Options => Method::Options,
        Method::Patch => Method::Patch,
        Method::Connect => Method::Connect,
        Method::Trace => Method::Trace,
        Method::Other(name) => Method::Other(name.clone()),
    }
}

/// Asks the URL in x-url with this request's method and body, and streams the answer through.
fn outgoing(target: &Target, request: IncomingRequest, out: ResponseOutparam) {
    let url = request.headers().get("x-url").into_iter().next().unwrap_or_default();
    let url = String::from_utf8(url).unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return text(out, 400, "x-url names no scheme\n");
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let ask = OutgoingRequest::new(Fields::from_list(&[("x-from".into(), b"guest".to_vec())]).unwrap());
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    let set = ask.set_method(&method_from(&request.method())).is_ok()
        && ask.set_scheme(Some(&scheme)).is_ok()
        && ask.set_authority(Some(authority)).is_ok()
        && ask.set_path_with_query(Some(if path.is_empty() { "/" } else { path })).is_ok();
    if !set {
        return text(out, 400, "the host refused a part of x-url\n");
    }
    let options = RequestOptions::new();
    if let Some(ms) = target.text("timeout").and_then(|text| text.parse::<u64>().ok()) {
        let _ = options.set_connect_timeout(Some(ms * 1_000_000));
        let _ = options.set_first_byte_timeout(Some(ms * 1_000_000));
        let _ = options.set_between_bytes_timeout(Some(ms * 1_000_000));
    }
    let up = ask.body().unwrap();
    let mut up_stream = up.write().unwrap();
    let future = match outgoing_handler::handle(ask, Some(options)) {
        Ok(future) => future,
        Err(error) => return text(out, 502, &format!("{error:?}\n")),
    };
    let body = request.consume().unwrap();
    let _ = read_all(&body, |piece| up_stream.write_all(piece).is_ok());
    drop(up_stream);
    let _ = OutgoingBody::finish(up, None);
    future.subscribe().block();
    let response = match future.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(error))) => return text(out, 502, &format!("{error:?}\n")),
        _ => return text(out, 502, "no answer\n"),
    };
    let status = response.status().to_string();
    let down = response.consume().unwrap();
    let mut answer = Answer::begin(out, 200, &[("x-upstream-status", status.as_bytes())]);
    if let Err(error) = read_all(&down, |piece| answer.send(piece)) {
        answer.send(format!("\nbroke off: {error}\n").as_bytes());
    }
    let _ = answer.end(None);
}

fn show(request: &IncomingRequest) -> String {
    let mut lines = format!("method {:?}\npath {:?}\n", request.method(), request.path_with_query());
    lines += &format!("scheme {:?}\nauthority {:?}\n", request.scheme(), request.authority());
    let mut fields = request.headers().entries();
    fields.sort();
    for (name, value) in fields {
        lines += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    lines
}

fn status(target: &Target, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    if response.set_status_code(target.number("code", 200) as u16).is_err() {
        return text(out, 500, "the host refused that status\n");
    }
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    OutgoingBody::finish(body, None).unwrap();
}

fn fields(target: &Target, out: ResponseOutparam) {
    let mut list: Vec<(String, Vec<u8>)> = Vec::new();
    let value = vec![b'v'; target.number("bytes", 10) as usize];
    for i in 0..target.number("n", 3) {
        list.push((format!("x-field-{i}"), value.clone()));
    }
    let fields = match Fields::from_list(&list) {
        Ok(fields) => fields,
        Err(error) => return text(out, 500, &format!("{error:?}\n")),
    };
    let response = OutgoingResponse::new(fields);
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    OutgoingBody::finish(body, None).unwrap();
}

impl wasip2::exports::http::incoming_handler::Guest for Many {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = Target::new(&request.path_with_query().unwrap_or_default());
        match target.path.as_str() {
            "/echo" => echo(request, out),
            "/splice" => splice(request, out),
            "/sink" | "/digest" => sink(&target, request, out),
            "/big" => big(&target, out),
            "/slow" => slow(&target, out),
            "/sleep" => {
                std::thread::sleep(Duration::from_millis(target.number("ms", 50)));
                text(out, 200, "slept\n");
            }
            "/trailers" => {
                let mut answer = Answer::begin(out, 200, &[("trailer", b"x-sum, x-end")]);
                answer.send(b"body\n");
                let _ = answer.end(Some(&[("x-sum", b"5"), ("x-end", b"yes")]));
            }
            "/bad-fields" => bad_fields(out),
            "/fields" => fields(&target, out),
            "/lie" => lie(&target, out),
            "/write-after-end" => write_after_end(out),
            "/unfinished" => {
                let mut answer = Answer::begin(out, 200, &[]);
                answer.send(b"half\n");
                let _ = answer.stream.flush();
            }
            "/trap-after" => trap_after(&target, out),
            "/no-answer" => drop(out),
            "/never" => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            "/error" => {
                ResponseOutparam::set(out, Err(wasip2::http::types::ErrorCode::ConnectionLimitReached))
            }
            "/twice" => two_answers(&request, out),
            "/outgoing" => outgoing(&target, request, out),
            "/request" => text(out, 200, &show(&request)),
            "/status" => status(&target, out),
            "/head-first" => {
                // The answer's head before the first byte of the request's body.
                let mut answer = Answer::begin(out, 200, &[]);
                answer.send(b"first\n");
                let _ = answer.stream.flush();
                let body = request.consume().unwrap();
                let mut digest = Digest::new();
                let _ = read_all(&body, |piece| {
                    digest.add(piece);
                    true
                });
                answer.send(digest.line().as_bytes());
                let _ = answer.end(None);
            }
            "/stdin" => {
                let mut got = Vec::new();
                let n = std::io::stdin().read_to_end(&mut got).map_or(-1, |n| n as i64);
                text(out, 200, &format!("{n}\n"));
            }
            _ => match shared::answer(&target) {
                Some(body) => text(out, 200, &body),
                None => text(out, 404, "no such path\n"),
            },
        }
    }
}
