// SPDX-License-Identifier: Apache-2.0
//! A function as a plain program of WASI preview 1; its C sister says how paths are read.
use std::io::{Read, Write};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn main() -> std::io::Result<()> {
    let mut path = variable("PATH_INFO");
    if path.is_empty() {
        path = variable("Http_Path");
    }
    let mut out = std::io::stdout().lock();
    let head = |out: &mut std::io::StdoutLock| -> std::io::Result<()> {
        if path.starts_with("/cgi/") {
            write!(out, "Content-Type: text/plain\nX-Language: Rust\n\n")?;
        }
        Ok(())
    };
    match path.rsplit('/').next().unwrap_or_default() {
        "cat" => {
            head(&mut out)?;
            let mut input = std::io::stdin().lock();
            let mut buffer = vec![0u8; 65536];
            loop {
                let n = input.read(&mut buffer)?;
                if n == 0 {
                    return out.flush();
                }
                out.write_all(&buffer[..n])?;
            }
        }
        "env" => {
            head(&mut out)?;
            for (i, argument) in std::env::args().enumerate() {
                writeln!(out, "arg {i} {argument}")?;
            }
            let mut variables: Vec<_> = std::env::vars().collect();
            variables.sort();
            for (name, value) in variables {
                writeln!(out, "{name}={value}")?;
            }
        }
        "exit" => std::process::exit(3),
        "trap" => panic!("asked to trap"),
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_millis(50));
            head(&mut out)?;
            out.write_all(b"slept\n")?;
        }
        _ => {
            head(&mut out)?;
            out.write_all(b"Hello from Rust\n")?;
        }
    }
    out.flush()
}
