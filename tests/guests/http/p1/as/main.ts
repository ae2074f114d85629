// SPDX-License-Identifier: Apache-2.0
// A function as a plain program of WASI preview 1, with the imports by hand: its C sister says how paths are read.
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: u32, iovs: usize, n: u32, written: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: u32, iovs: usize, n: u32, read: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_sizes_get")
declare function environ_sizes_get(count: usize, bytes: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_get")
declare function environ_get(list: usize, bytes: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(code: u32): void;

const iov = memory.data(16);
const result = memory.data(16);
const block = memory.data(65536);

function put(at: usize, n: u32): bool {
  let sent: u32 = 0;
  while (sent < n) {
    store<u32>(iov, (at + sent) as u32);
    store<u32>(iov, n - sent, 4);
    if (fd_write(1, iov, 1, result) != 0) return false;
    sent += load<u32>(result);
  }
  return true;
}

function print(text: string): void {
  const bytes = String.UTF8.encode(text);
  put(changetype<usize>(bytes), bytes.byteLength);
}

function cat(): void {
  for (;;) {
    store<u32>(iov, block as u32);
    store<u32>(iov, 65536, 4);
    if (fd_read(0, iov, 1, result) != 0) proc_exit(1);
    const n = load<u32>(result);
    if (n == 0) return;
    if (!put(block, n)) proc_exit(1);
  }
}

function environment(): string[] {
  environ_sizes_get(result, result + 4);
  const n = load<u32>(result);
  const list = new ArrayBuffer(n * 4);
  const bytes = new ArrayBuffer(load<u32>(result, 4));
  environ_get(changetype<usize>(list), changetype<usize>(bytes));
  const all: string[] = [];
  for (let i: u32 = 0; i < n; i++)
    all.push(String.UTF8.decodeUnsafe(load<u32>(changetype<usize>(list) + i * 4), bytes.byteLength, true));
  return all.sort();
}

function variable(all: string[], name: string): string {
  for (let i = 0; i < all.length; i++)
    if (all[i].startsWith(name + "=")) return all[i].substring(name.length + 1);
  return "";
}

export function _start(): void {
  const all = environment();
  let path = variable(all, "PATH_INFO");
  if (path == "") path = variable(all, "Http_Path");
  const what = path.substring(path.lastIndexOf("/") + 1);
  if (what == "exit") proc_exit(3);
  if (what == "trap") unreachable();
  if (path.startsWith("/cgi/")) print("Content-Type: text/plain\nX-Language: AssemblyScript\n\n");
  if (what == "cat") cat();
  else if (what == "env") print(all.join("\n") + "\n");
  else print("Hello from AssemblyScript\n");
}
