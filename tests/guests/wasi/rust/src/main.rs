// SPDX-License-Identifier: Apache-2.0
//! What Rust's standard library makes of WASI: files, folders, links, times, input, sleep, errors by kind.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant, SystemTime};

fn tell<T: std::fmt::Debug>(what: &str, result: io::Result<T>) {
    match result {
        Ok(value) => println!("{what}: {value:?}"),
        Err(error) => println!("{what}: {:?} ({:?})", error.kind(), error.raw_os_error()),
    }
}

fn names(path: &str) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        all.push(format!("{}:{}{}", entry.file_name().to_string_lossy(), kind.is_dir() as u8, kind.is_symlink() as u8));
    }
    all.sort();
    Ok(all)
}

fn files() -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open("/rust.txt")?;
    file.write_all(b"0123456789")?;
    println!("at {}", file.stream_position()?);
    file.seek(SeekFrom::Start(3))?;
    let mut four = [0; 4];
    file.read_exact(&mut four)?;
    println!("{}", String::from_utf8_lossy(&four));
    file.seek(SeekFrom::End(-1))?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    println!("{rest}");
    file.set_len(4)?;
    file.sync_all()?;
    println!("{}", file.metadata()?.len());
    let mut more = OpenOptions::new().append(true).open("/rust.txt")?;
    more.write_all(b"appended")?;
    println!("{}", fs::read_to_string("/rust.txt")?);
    io::copy(&mut File::open("/rust.txt")?, &mut File::create("/copy.txt")?)?;
    let big: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    fs::write("/big", &big)?;
    println!("{}", fs::read("/big")? == big);
    Ok(())
}

fn folders() -> io::Result<()> {
    fs::create_dir_all("/a/b/c")?;
    for i in 0..300 {
        fs::write(format!("/a/b/file-{i}"), "x")?;
    }
    println!("{}", names("/a/b")?.len());
    println!("{:?}", names("/a")?);
    fs::rename("/a/b/c", "/a/moved")?;
    println!("{:?}", names("/a")?);
    println!("{}", fs::metadata("/a/b/../moved")?.is_dir());
    fs::remove_dir_all("/a")?;
    Ok(())
}

fn main() {
    tell("files", files());
    tell("folders", folders());
    tell("missing", File::open("/missing"));
    tell("exists", OpenOptions::new().write(true).create_new(true).open("/copy.txt"));
    tell("folder as file", fs::read("/"));
    tell("file as folder", fs::read_dir("/copy.txt").map(|_| ()));
    tell("through a file", fs::read("/copy.txt/x"));
    tell("up", fs::read("/../../etc/passwd"));
    tell("read-only", fs::write("/ro/new", "x"));
    tell("read-only read", fs::read_to_string("/ro/f"));
    tell("read-only remove", fs::remove_file("/ro/f"));
    tell("remove folder", fs::remove_file("/ro"));
    tell("hard link", fs::hard_link("/copy.txt", "/second.txt"));
    tell("same", fs::read_to_string("/second.txt"));
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    tell("times", File::options().write(true).open("/copy.txt").and_then(|f| f.set_modified(then)));
    tell("modified", fs::metadata("/copy.txt").and_then(|m| m.modified()).map(|t| t == then));
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    println!("slept {}", began.elapsed() >= Duration::from_millis(20));
    println!("{}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() > 1_700_000_000);
    let mut input = String::new();
    tell("line", io::stdin().read_line(&mut input));
    tell("rest", io::stdin().read_to_string(&mut input));
    print!("{input}");
    println!("{:?}", std::env::args().skip(1).collect::<Vec<_>>());
    let mut environment: Vec<_> = std::env::vars().collect();
    environment.sort();
    println!("{environment:?}");
    eprintln!("to standard error");
    std::process::exit(9);
}
