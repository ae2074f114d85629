;; A module that wants functions which nobody offers: refused before it runs, with their names.
(module
  (import "env" "open_socket" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_open" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))
