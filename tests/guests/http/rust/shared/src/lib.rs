// SPDX-License-Identifier: Apache-2.0
//! What the guests of both versions of wasi:http do alike: everything that is not HTTP.
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub const MIB: usize = 1 << 20;
pub const CHUNK: usize = 64 * 1024;

static CALLS: AtomicU64 = AtomicU64::new(0);

/// The target of a request, taken apart.
pub struct Target {
    pub path: String,
    pub query: String,
}

impl Target {
    pub fn new(path_with_query: &str) -> Self {
        let (path, query) = path_with_query.split_once('?').unwrap_or((path_with_query, ""));
        Target { path: path.into(), query: query.into() }
    }

    /// A query item as it stands: no percent-decoding.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|item| item.split_once('='))
            .find(|item| item.0 == name)
            .map(|item| item.1)
    }

    pub fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    }
}

/// FNV-1a, 64 bits, and how many bytes went in.
pub struct Digest {
    pub bytes: u64,
    pub sum: u64,
}

impl Digest {
    pub fn new() -> Self {
        Digest { bytes: 0, sum: 0xcbf2_9ce4_8422_2325 }
    }

    pub fn add(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        for byte in data {
            self.sum = (self.sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub fn line(&self) -> String {
        format!("{} {:016x}\n", self.bytes, self.sum)
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

/// A large body that a client can check without knowing it: byte i is i modulo 251.
pub fn pattern() -> Vec<u8> {
    (0..CHUNK + 251).map(|i| (i % 251) as u8).collect()
}

pub fn pattern_at(pattern: &[u8], offset: usize, n: usize) -> &[u8] {
    let begin = offset % 251;
    &pattern[begin..begin + n]
}

/// Fields that a host must refuse, each with what is wrong with it.
pub const BAD_FIELDS: &[(&str, &str, &[u8])] = &[
    ("empty name", "", b"x"),
    ("space in the name", "x y", b"x"),
    ("colon in the name", "x:", b"x"),
    ("CR in the name", "x\r", b"x"),
    ("LF in the name", "x\ny", b"x"),
    ("NUL in the name", "x\0", b"x"),
    ("not ASCII", "x\u{e9}", b"x"),
    ("CR in the value", "x-bad", b"a\rb"),
    ("LF in the value", "x-bad", b"a\nb"),
    ("CRLF in the value", "x-bad", b"a\r\nx-smuggled: 1"),
    ("NUL in the value", "x-bad", b"a\0b"),
    ("DEL in the value", "x-bad", b"a\x7fb"),
    ("connection", "connection", b"close"),
    ("keep-alive", "keep-alive", b"timeout=5"),
    ("transfer-encoding", "transfer-encoding", b"chunked"),
    ("upgrade", "upgrade", b"websocket"),
    ("host", "host", b"example.org"),
    ("http2-settings", "http2-settings", b"AAA"),
    ("proxy-connection", "proxy-connection", b"close"),
];

#[allow(unconditional_recursion)]
fn deeper(n: u64) -> u64 {
    black_box(deeper(black_box(n + 1)) + 1)
}

/// What does not come back.
pub fn misbehave(target: &Target) {
    match target.path.as_str() {
        "/trap" => panic!("asked to trap"),
        "/unreachable" => std::process::abort(),
        "/deep" => drop(black_box(deeper(0))),
        "/exit" => std::process::exit(target.number("code", 3) as i32),
        "/loop" => {
            let mut n = 0u64;
            loop {
                n = black_box(n.wrapping_add(1));
            }
        }
        "/memory" => drop(black_box(unsafe { (0xffff_0000u32 as *const u32).read_volatile() })),
        "/alloc-forever" => {
            let mut kept = Vec::new();
            loop {
                kept.push(black_box(vec![1u8; MIB]));
            }
        }
        _ => {}
    }
}

fn allocate(target: &Target) -> String {
    let asked = target.number("mib", 16);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for n in 0..asked {
        let mut block = Vec::new();
        if block.try_reserve_exact(MIB).is_err() {
            return format!("refused after {n} MiB\n");
        }
        block.resize(MIB, 1u8);
        kept.push(black_box(block));
    }
    format!("{} MiB\n", kept.len())
}

fn file(target: &Target) -> String {
    let path = target.text("path").unwrap_or("/");
    let result = if target.text("write").is_some() {
        std::fs::write(path, target.text("write").unwrap_or_default()).map(|()| String::from("written"))
    } else if path.ends_with('/') {
        std::fs::read_dir(path).map(|entries| {
            let mut names: Vec<_> =
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names.join(" ")
        })
    } else {
        std::fs::read_to_string(path)
    };
    match result {
        Ok(text) => format!("{text}\n"),
        Err(error) => format!("error: {:?}\n", error.kind()),
    }
}

fn connect(target: &Target) -> String {
    let address = target.text("to").unwrap_or("127.0.0.1:9");
    let talk = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(b"ping\n")?;
        let mut answer = [0u8; 64];
        let n = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
    };
    match talk() {
        Ok(text) => format!("answered {text}\n"),
        Err(error) => format!("error: {:?}\n", error.kind()),
    }
}

fn resolve(target: &Target) -> String {
    use std::net::ToSocketAddrs;
    match (target.text("name").unwrap_or("localhost"), 80).to_socket_addrs() {
        Ok(addresses) => addresses.map(|a| format!("{}\n", a.ip())).collect(),
        Err(error) => format!("error: {:?}\n", error.kind()),
    }
}

fn environment() -> String {
    let mut text = String::new();
    for (i, argument) in std::env::args().enumerate() {
        writeln!(text, "arg {i} {argument}").unwrap();
    }
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.sort();
    for (name, value) in variables {
        writeln!(text, "{name}={value}").unwrap();
    }
    text
}

fn random() -> String {
    // RandomState takes its keys from the host's random source.
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}\n", RandomState::new().hash_one(1))
}

fn clock(target: &Target) -> String {
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(target.number("ms", 10)));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    format!("{} {}\n", now.as_secs(), began.elapsed().as_micros())
}

/// The answers that need nothing of the request but its target. None: not one of these.
pub fn answer(target: &Target) -> Option<String> {
    misbehave(target);
    Some(match target.path.as_str() {
        "/" | "/hello" => "Hello from a component\n".into(),
        "/count" => format!("{}\n", CALLS.fetch_add(1, Ordering::Relaxed) + 1),
        "/alloc" => allocate(target),
        "/file" => file(target),
        "/connect" => connect(target),
        "/resolve" => resolve(target),
        "/environment" => environment(),
        "/random" => random(),
        "/clock" => clock(target),
        "/log" => {
            println!("to stdout");
            eprintln!("to stderr");
            "logged\n".into()
        }
        _ => return None,
    })
}
