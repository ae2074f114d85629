// SPDX-License-Identifier: Apache-2.0
//! A command of wasi:cli 0.3: says hello, copies its input, or fails, as its first argument asks.
use wasip3::cli::{environment, stdin, stdout};
use wasip3::wit_stream;
use wit_bindgen::rt::async_support::StreamResult;

wasip3::cli::command::export!(Command);

struct Command;

async fn say(text: Vec<u8>) -> bool {
    let (mut writer, reader) = wit_stream::new();
    let written = stdout::write_via_stream(reader);
    let left = writer.write_all(text).await;
    drop(writer);
    left.is_empty() && written.await.is_ok()
}

async fn cat() -> bool {
    let (mut input, end) = stdin::read_via_stream();
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let (result, piece) = input.read(buffer).await;
        if !piece.is_empty() && !say(piece.clone()).await {
            return false;
        }
        if !matches!(result, StreamResult::Complete(_)) {
            return end.await.is_ok();
        }
        buffer = piece;
        buffer.clear();
    }
}

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let done = match environment::get_arguments().get(1).map(String::as_str) {
            Some("cat") => cat().await,
            Some("fail") => false,
            Some("sleep") => {
                wasip3::clocks::monotonic_clock::wait_for(50_000_000).await;
                say(b"slept\n".to_vec()).await
            }
            _ => say(b"Hello from 0.3\n".to_vec()).await,
        };
        if done { Ok(()) } else { Err(()) }
    }
}
