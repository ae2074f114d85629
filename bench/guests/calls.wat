;; What crossings and instances are measured with: memory with data, a table, globals, as a small C program has.
(module
  (import "env" "one" (func $one (param i64) (result i64)))
  (import "env" "five" (func $five (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "Hello, harbour!\n")
  (data (i32.const 65536) "and what a program has at its second page")
  (table 8 funcref)
  (elem (i32.const 1) $nop $nop $nop)
  (global $stack (mut i32) (i32.const 66560))
  (func $nop (export "nop"))
  (func (export "add") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
  (func (export "out_one") (param $n i32) (local $v i64)
    (loop $again
      (local.set $v (call $one (local.get $v)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "out_five") (param $n i32) (local $v i32)
    (loop $again
      (local.set $v (call $five (local.get $v) (i32.const 2) (i32.const 3) (i32.const 4) (i32.const 5)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))
