// SPDX-License-Identifier: Apache-2.0
//! What wit-bindgen's and wasm-tools' command lines would do for the guests, without their ninety other crates:
//!     wit-tool c|go WIT WORLD FOLDER                    bindings
//!     wit-tool new CORE OUT ADAPTER [WIT WORLD]         a component of a core module; ADAPTER: none, reactor, command
//!     wit-tool wit VERSION FOLDER                       WASI's own WIT files, told as that patch version
//!     wit-tool go-runtime                               where the Go bindings' runtime lies (one line)
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use wasi_preview1_component_adapter_provider as adapters;
use wit_bindgen_core::{Files, WorldGenerator, wit_parser::Resolve};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

fn world(wit: &str, name: &str) -> Result<(Resolve, wit_bindgen_core::wit_parser::WorldId)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit).with_context(|| format!("read '{wit}'"))?;
    let id = resolve.select_world(&[package], Some(name))?;
    Ok((resolve, id))
}

fn bindings(mut generator: Box<dyn WorldGenerator>, wit: &str, name: &str, folder: &str) -> Result<()> {
    let (mut resolve, id) = world(wit, name)?;
    let mut files = Files::default();
    generator.generate(&mut resolve, id, &mut files)?;
    for (file, content) in files.iter() {
        let path = Path::new(folder).join(file);
        std::fs::create_dir_all(path.parent().unwrap())?;
        std::fs::write(path, content)?;
    }
    Ok(())
}

fn component(core: &str, out: &str, adapter: &str, wit: Option<(&str, &str)>) -> Result<()> {
    let mut module = std::fs::read(core).with_context(|| format!("read '{core}'"))?;
    if let Some((folder, name)) = wit {
        let (resolve, id) = world(folder, name)?;
        embed_component_metadata(&mut module, &resolve, id, StringEncoding::UTF8, false)?;
    }
    let code = match adapter {
        "none" => None,
        "reactor" => Some(adapters::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER),
        "command" => Some(adapters::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER),
        other => bail!("there is no adapter '{other}'; there are: none, reactor, command"),
    };
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module)?;
    if let Some(code) = code {
        encoder.adapter(adapters::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, code)?;
    }
    Ok(std::fs::write(out, encoder.encode()?)?)
}

/// The folder of a crate that this program was built from.
fn crate_folder(name: &str) -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let done = std::process::Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(manifest)
        .output()?;
    let text = String::from_utf8(done.stdout)?;
    let marker = format!("/{name}-");
    let at = text.find(&marker).with_context(|| format!("crate {name} is not there"))?;
    let begin = text[..at].rfind('"').unwrap() + 1;
    let end = at + 1 + text[at + 1..].find('/').unwrap();
    Ok(text[begin..end].into())
}

/// Interfaces are named by the version that a guest was made with; hosts link them by semantic versioning.
fn wit(version: &str, folder: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(crate_folder("wasip2")?.join("wit/deps"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?.replace("0.2.12", version);
        let ungated: Vec<_> = text
            .lines()
            .filter(|line| {
                let word = line.trim_start();
                !word.starts_with("@since") && !word.starts_with("@deprecated")
            })
            .collect();
        std::fs::write(Path::new(folder).join(path.file_name().unwrap()), ungated.join("\n") + "\n")?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["c", folder, name, out] => bindings(wit_bindgen_c::Opts::default().build(), folder, name, out),
        ["go", folder, name, out] => bindings(wit_bindgen_go::Opts::default().build(), folder, name, out),
        ["new", core, out, adapter] => component(core, out, adapter, None),
        ["new", core, out, adapter, folder, name] => component(core, out, adapter, Some((folder, name))),
        ["wit", version, folder] => wit(version, folder),
        ["go-runtime"] => {
            println!("{}", crate_folder("wit-bindgen-go")?.join("src/pkg").display());
            Ok(())
        }
        _ => bail!("usage: wit-tool c|go|new|wit|go-runtime ..."),
    }
}
