// SPDX-License-Identifier: Apache-2.0
//! As much of the Redis protocol (RESP 2) as a worker needs, over one connection.
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Longer lines and texts are no answer of ours.
const TEXT_MAX: usize = 1 << 20;
const LIST_MAX: usize = 1 << 16;
const DEPTH_MAX: usize = 4;

#[derive(Debug, PartialEq)]
pub enum Value {
    Nothing,
    Number(i64),
    Text(String),
    List(Vec<Value>),
}

impl Value {
    pub fn text(self) -> Option<String> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }
}

#[derive(Debug)]
pub struct Error(String);
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error(format!("redis: {error}"))
    }
}

fn wrong<T>(what: &str) -> Result<T> {
    Err(Error(format!("redis: the answer is no RESP: {what}")))
}

pub struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    pub fn connect(address: &str) -> Result<Redis> {
        let stream =
            TcpStream::connect(address).map_err(|e| Error(format!("connect to redis at {address}: {e}")))?;
        Ok(Redis { stream: BufReader::new(stream) })
    }

    /// Sends a command and reads its answer; an error of the server is one.
    pub fn call(&mut self, words: &[&str]) -> Result<Value> {
        let mut out = format!("*{}\r\n", words.len());
        for word in words {
            out += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.stream.get_mut().write_all(out.as_bytes())?;
        self.read(0)
    }

    pub fn script(&mut self, script: &str, keys: &[&str], arguments: &[&str]) -> Result<Value> {
        let n = keys.len().to_string();
        let words: Vec<&str> = ["EVAL", script, &n].iter().chain(keys).chain(arguments).copied().collect();
        self.call(&words)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.by_ref().take(TEXT_MAX as u64).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => wrong("a line does not end"),
        }
    }

    fn read(&mut self, depth: usize) -> Result<Value> {
        let line = self.line()?;
        let Some(rest) = line.get(1..) else { return wrong("an empty line") };
        let number = || rest.parse::<i64>().or_else(|_| wrong(&line));
        match line.as_bytes()[0] {
            b'+' => Ok(Value::Text(rest.into())),
            b'-' => Err(Error(format!("redis: {rest}"))),
            b':' => Ok(Value::Number(number()?)),
            b'$' | b'*' if number()? < 0 => Ok(Value::Nothing),
            b'$' if number()? <= TEXT_MAX as i64 => {
                let mut bytes = vec![0; number()? as usize + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                String::from_utf8(bytes).map(Value::Text).or_else(|_| wrong("a text is no UTF-8"))
            }
            b'*' if depth < DEPTH_MAX && number()? <= LIST_MAX as i64 => {
                (0..number()?).map(|_| self.read(depth + 1)).collect::<Result<_>>().map(Value::List)
            }
            _ => wrong(&line),
        }
    }
}
