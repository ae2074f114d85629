// SPDX-License-Identifier: Apache-2.0
//! One service of wasi:http 0.3 that does, by path, whatever a test asks for.
use std::cell::Cell;
use std::rc::Rc;

use shared::{BAD_FIELDS, CHUNK, Digest, MIB, Target};
use wasip3::clocks::monotonic_clock;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme, Trailers};
use wasip3::{wit_future, wit_stream};
use wit_bindgen::rt::async_support::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter};

wasip3::http::service::export!(Many);

struct Many;

type Answer = Result<Response, ErrorCode>;
type End = FutureWriter<Result<Option<Trailers>, ErrorCode>>;

fn fields_of(list: &[(&str, &[u8])]) -> Fields {
    let list: Vec<_> = list.iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect();
    Fields::from_list(&list).unwrap()
}

/// An answer, the stream for its body, and what ends it.
fn answer(status: u16, fields: &[(&str, &[u8])]) -> (Response, StreamWriter<u8>, End) {
    let (body, body_reader) = wit_stream::new();
    let (end, end_reader) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(fields_of(fields), Some(body_reader), end_reader);
    response.set_status_code(status).unwrap();
    (response, body, end)
}

fn text(status: u16, body: String) -> Answer {
    let (response, mut stream, end) = answer(status, &[("content-type", b"text/plain")]);
    wit_bindgen::spawn_local(async move {
        stream.write_all(body.into_bytes()).await;
        drop(stream);
        drop(end);
    });
    Ok(response)
}

/// A request's body; the future tells its trailers, or that it broke off.
fn body_of(request: Request) -> (StreamReader<u8>, FutureReader<Result<Option<Trailers>, ErrorCode>>) {
    let (done, done_reader) = wit_future::new(|| Ok(()));
    drop(done);
    Request::consume_body(request, done_reader)
}

/// The next piece; None at the end. The buffer comes back with it and is used again.
async fn next(stream: &mut StreamReader<u8>, buffer: Vec<u8>) -> Option<Vec<u8>> {
    let mut buffer = buffer;
    buffer.clear();
    buffer.reserve(CHUNK);
    let (result, buffer) = stream.read(buffer).await;
    match result {
        StreamResult::Complete(_) => Some(buffer),
        _ if !buffer.is_empty() => Some(buffer),
        _ => None,
    }
}

fn echo(request: Request) -> Answer {
    let kind = request.get_headers().get("content-type").into_iter().next();
    let kind = kind.as_deref().unwrap_or(b"application/octet-stream");
    let announced = request.get_headers().get("trailer").into_iter().next();
    let mut fields = vec![("content-type", kind)];
    fields.extend(announced.as_deref().map(|names| ("trailer", names)));
    let (response, mut out, end) = answer(200, &fields);
    let (mut body, trailers) = body_of(request);
    wit_bindgen::spawn_local(async move {
        let mut buffer = Vec::new();
        while let Some(piece) = next(&mut body, buffer).await {
            buffer = out.write_all(piece).await;
            if !buffer.is_empty() {
                return;
            }
        }
        drop(out);
        let trailers = trailers.await;
        assert!(trailers.is_ok(), "the request body broke off: {trailers:?}");
        let _ = end.write(Ok(trailers.unwrap())).await;
    });
    Ok(response)
}

/// The same without a byte in the guest's memory: the request's body is the answer's.
fn splice(request: Request) -> Answer {
    let (body, trailers) = body_of(request);
    let (response, _sent) = Response::new(Fields::new(), Some(body), trailers);
    Ok(response)
}

async fn sink(target: &Target, request: Request) -> Answer {
    let (mut body, trailers) = body_of(request);
    let mut digest = Digest::new();
    let mut bytes = 0;
    let sum = target.path == "/digest";
    let mut buffer = Vec::new();
    while let Some(piece) = next(&mut body, buffer).await {
        bytes += piece.len();
        if sum {
            digest.add(&piece);
        }
        buffer = piece;
    }
    match trailers.await {
        Ok(_) if sum => text(200, digest.line()),
        Ok(_) => text(200, format!("{bytes}\n")),
        Err(error) => text(400, format!("{bytes} bytes, then {error:?}\n")),
    }
}

fn big(target: &Target) -> Answer {
    let bytes = target.number("bytes", target.number("mib", 100) * MIB as u64) as usize;
    let length = bytes.to_string();
    let told: &[(&str, &[u8])] = &[("content-length", length.as_bytes())];
    let (response, mut out, end) = answer(200, if target.text("chunked").is_some() { &[] } else { told });
    wit_bindgen::spawn_local(async move {
        let pattern = shared::pattern();
        let mut sent = 0;
        while sent < bytes {
            let n = CHUNK.min(bytes - sent);
            if !out.write_all(shared::pattern_at(&pattern, sent, n).to_vec()).await.is_empty() {
                eprintln!("the client left after {sent} bytes");
                return;
            }
            sent += n;
        }
        drop(out);
        drop(end);
    });
    Ok(response)
}

fn slow(target: &Target) -> Answer {
    let (chunks, ms) = (target.number("chunks", 5), target.number("ms", 20));
    let (response, mut out, end) = answer(200, &[("content-type", b"text/event-stream")]);
    wit_bindgen::spawn_local(async move {
        for i in 0..chunks {
            if !out.write_all(format!("data: {i}\n\n").into_bytes()).await.is_empty() {
                eprintln!("the client left after {i} chunks");
                return;
            }
            monotonic_clock::wait_for(ms * 1_000_000).await;
        }
        drop(out);
        drop(end);
    });
    Ok(response)
}

fn bad_fields() -> Answer {
    let mut lines = String::new();
    for (what, name, value) in BAD_FIELDS {
        let one = Fields::from_list(&[(name.to_string(), value.to_vec())]).err();
        let two = Fields::new().append(name, value).err();
        lines += &format!("{what}: {one:?} {two:?}\n");
    }
    text(200, lines)
}

/// More or fewer bytes than the length it told.
fn lie(target: &Target) -> Answer {
    let length = target.number("told", 5).to_string();
    let sent = target.number("sent", 10) as usize;
    let (response, mut out, end) = answer(200, &[("content-length", length.as_bytes())]);
    wit_bindgen::spawn_local(async move {
        let left = out.write_all(vec![b'x'; sent]).await.len();
        println!("{left} bytes were not taken");
        drop(out);
        drop(end);
    });
    Ok(response)
}

/// Ends the answer, then writes.
fn write_after_end() -> Answer {
    let (response, mut out, end) = answer(200, &[]);
    wit_bindgen::spawn_local(async move {
        out.write_all(b"before\n".to_vec()).await;
        let ended = end.write(Ok(None)).await;
        let left = out.write_all(b"after\n".to_vec()).await.len();
        println!("ended {}, then {left} bytes were not taken", ended.is_ok());
    });
    Ok(response)
}

fn trap_after(target: &Target) -> Answer {
    let bytes = target.number("bytes", 10) as usize;
    let (response, mut out, end) = answer(200, &[]);
    wit_bindgen::spawn_local(async move {
        out.write_all(vec![b'x'; bytes]).await;
        let _kept = end;
        panic!("asked to trap after the head");
    });
    Ok(response)
}

fn unfinished() -> Answer {
    let (response, mut out, end) = answer(200, &[]);
    wit_bindgen::spawn_local(async move {
        out.write_all(b"half\n".to_vec()).await;
        drop(out);
        let _ = end.write(Err(ErrorCode::InternalError(Some("half of it".into())))).await;
    });
    Ok(response)
}

fn head_first(request: Request) -> Answer {
    let (response, mut out, end) = answer(200, &[]);
    let (mut body, trailers) = body_of(request);
    wit_bindgen::spawn_local(async move {
        out.write_all(b"first\n".to_vec()).await;
        let mut digest = Digest::new();
        let mut buffer = Vec::new();
        while let Some(piece) = next(&mut body, buffer).await {
            digest.add(&piece);
            buffer = piece;
        }
        let _ = trailers.await;
        out.write_all(digest.line().into_bytes()).await;
        drop(out);
        drop(end);
    });
    Ok(response)
}

fn trailers() -> Answer {
    let (response, mut out, end) = answer(200, &[("trailer", b"x-sum, x-end")]);
    wit_bindgen::spawn_local(async move {
        out.write_all(b"body\n".to_vec()).await;
        drop(out);
        let _ = end.write(Ok(Some(fields_of(&[("x-sum", b"5"), ("x-end", b"yes")])))).await;
    });
    Ok(response)
}

/// Asks the URL in x-url with this request's method and body, and streams the answer through.
async fn outgoing(target: &Target, request: Request) -> Answer {
    let url = request.get_headers().get("x-url").into_iter().next().unwrap_or_default();
    let url = String::from_utf8(url).unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return text(400, "x-url names no scheme\n".into());
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    let options = RequestOptions::new();
    if let Some(ms) = target.text("timeout").and_then(|text| text.parse::<u64>().ok()) {
        let _ = options.set_connect_timeout(Some(ms * 1_000_000));
        let _ = options.set_first_byte_timeout(Some(ms * 1_000_000));
        let _ = options.set_between_bytes_timeout(Some(ms * 1_000_000));
    }
    let method = request.get_method();
    let empty = matches!(method, Method::Get | Method::Head);
    let (body, trailers) = body_of(request);
    let (ask, _sent) = if empty {
        drop(body);
        drop(trailers);
        let (end, end_reader) = wit_future::new(|| Ok(None));
        drop(end);
        Request::new(fields_of(&[("x-from", b"guest")]), None, end_reader, Some(options))
    } else {
        Request::new(fields_of(&[("x-from", b"guest")]), Some(body), trailers, Some(options))
    };
    let set = ask.set_method(&method).is_ok()
        && ask.set_scheme(Some(&scheme)).is_ok()
        && ask.set_authority(Some(authority)).is_ok()
        && ask.set_path_with_query(Some(if path.is_empty() { "/" } else { path })).is_ok();
    if !set {
        return text(400, "the host refused a part of x-url\n".into());
    }
    let response = match client::send(ask).await {
        Ok(response) => response,
        Err(error) => return text(502, format!("{error:?}\n")),
    };
    let status = response.get_status_code().to_string();
    let (done, done_reader) = wit_future::new(|| Ok(()));
    drop(done);
    let (mut down, down_end) = Response::consume_body(response, done_reader);
    let (response, mut out, end) = answer(200, &[("x-upstream-status", status.as_bytes())]);
    wit_bindgen::spawn_local(async move {
        let mut buffer = Vec::new();
        while let Some(piece) = next(&mut down, buffer).await {
            buffer = out.write_all(piece).await;
            if !buffer.is_empty() {
                return;
            }
        }
        if let Err(error) = down_end.await {
            out.write_all(format!("\nbroke off: {error:?}\n").into_bytes()).await;
        }
        drop(out);
        drop(end);
    });
    Ok(response)
}

fn show(request: &Request) -> String {
    let mut lines = format!("method {:?}\npath {:?}\n", request.get_method(), request.get_path_with_query());
    lines += &format!("scheme {:?}\nauthority {:?}\n", request.get_scheme(), request.get_authority());
    let mut fields = request.get_headers().copy_all();
    fields.sort();
    for (name, value) in fields {
        lines += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    lines
}

fn bare(fields: Fields, status: u16) -> Answer {
    let (end, end_reader) = wit_future::new(|| Ok(None));
    drop(end);
    let (response, _sent) = Response::new(fields, None, end_reader);
    if response.set_status_code(status).is_err() {
        return text(500, "the host refused that status\n".into());
    }
    Ok(response)
}

fn fields(target: &Target) -> Answer {
    let value = vec![b'v'; target.number("bytes", 10) as usize];
    let list: Vec<_> = (0..target.number("n", 3)).map(|i| (format!("x-field-{i}"), value.clone())).collect();
    match Fields::from_list(&list) {
        Ok(fields) => bare(fields, 200),
        Err(error) => text(500, format!("{error:?}\n")),
    }
}

thread_local! {
    static INSIDE: Rc<Cell<u32>> = Rc::new(Cell::new(0));
}

/// How many requests were in this instance at once when this one slept.
async fn together(target: &Target) -> Answer {
    let inside = INSIDE.with(Rc::clone);
    inside.set(inside.get() + 1);
    monotonic_clock::wait_for(target.number("ms", 50) * 1_000_000).await;
    let seen = inside.get();
    monotonic_clock::wait_for(target.number("ms", 50) * 1_000_000).await;
    inside.set(inside.get() - 1);
    text(200, format!("{seen}\n"))
}

impl wasip3::exports::http::handler::Guest for Many {
    async fn handle(request: Request) -> Answer {
        let target = Target::new(&request.get_path_with_query().unwrap_or_default());
        match target.path.as_str() {
            "/echo" => echo(request),
            "/splice" => splice(request),
            "/sink" | "/digest" => sink(&target, request).await,
            "/big" => big(&target),
            "/slow" => slow(&target),
            "/sleep" => {
                monotonic_clock::wait_for(target.number("ms", 50) * 1_000_000).await;
                text(200, "slept\n".into())
            }
            "/together" => together(&target).await,
            "/trailers" => trailers(),
            "/bad-fields" => bad_fields(),
            "/fields" => fields(&target),
            "/lie" => lie(&target),
            "/write-after-end" => write_after_end(),
            "/unfinished" => unfinished(),
            "/trap-after" => trap_after(&target),
            "/never" => loop {
                monotonic_clock::wait_for(3_600_000_000_000).await;
            },
            "/error" => Err(ErrorCode::ConnectionLimitReached),
            "/outgoing" => outgoing(&target, request).await,
            "/request" => text(200, show(&request)),
            "/status" => bare(Fields::new(), target.number("code", 200) as u16),
            "/head-first" => head_first(request),
            _ => match shared::answer(&target) {
                Some(body) => text(200, body),
                None => text(404, "no such path\n".into()),
            },
        }
    }
}
