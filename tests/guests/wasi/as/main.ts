// SPDX-License-Identifier: Apache-2.0
// AssemblyScript has no WASI library of its own any more: the imports, by hand.
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: u32, iovs: usize, n: u32, written: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: u32, iovs: usize, n: u32, read: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "path_open")
declare function path_open(fd: u32, dirflags: u32, path: usize, n: u32, oflags: u32, rights: u64, inheriting: u64,
  fdflags: u32, opened: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_seek")
declare function fd_seek(fd: u32, offset: i64, whence: u32, at: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "args_sizes_get")
declare function args_sizes_get(count: usize, bytes: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "clock_time_get")
declare function clock_time_get(id: u32, precision: u64, time: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(code: u32): void;

const iov = memory.data(16);
const result = memory.data(16);

function write(fd: u32, text: string): u32 {
  const bytes = String.UTF8.encode(text);
  store<u32>(iov, changetype<usize>(bytes) as u32);
  store<u32>(iov, bytes.byteLength, 4);
  return fd_write(fd, iov, 1, result);
}

function say(what: string, rc: u32, value: u64): void {
  write(1, what + ": " + rc.toString() + " " + value.toString() + "\n");
}

export function _start(): void {
  say("hello", args_sizes_get(result, result + 8), load<u32>(result));
  const path = String.UTF8.encode("as.txt");
  const rights: u64 = (1 << 1) | (1 << 6);
  const rc = path_open(3, 0, changetype<usize>(path), path.byteLength, 9, rights, 0, 0, result);
  const fd = load<u32>(result);
  say("open", rc, fd);
  say("write", write(fd, "Grüße"), load<u32>(result));
  say("seek", fd_seek(fd, 0, 0, result), load<u64>(result));
  const text = new ArrayBuffer(32);
  store<u32>(iov, changetype<usize>(text) as u32);
  store<u32>(iov, 32, 4);
  const got = fd_read(fd, iov, 1, result);
  const n = load<u32>(result);
  say("read", got, n);
  write(1, String.UTF8.decode(text.slice(0, n)) + "\n");
  say("clock", clock_time_get(0, 0, result), load<u64>(result) > 1700000000000000000 ? 1 : 0);
  proc_exit(11);
}
