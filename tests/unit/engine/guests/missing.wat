;; Wants one function that is offered, one that is offered with another type, and what nobody offers.
(module
  (import "env" "put" (func (param i32 i32) (result i32)))
  (import "env" "mix" (func (param i32) (result i32)))
  (import "wasi_snapshot_preview2" "brew_tea" (func (param i32 i64) (result f64)))
  (import "env" "memory" (memory 1))
  (import "env" "base" (global i32))
  (import "env" "put" (func (param i32 i32) (result i32))))
