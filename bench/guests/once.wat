;; The guest of a cold start: a small memory image, one call.
(module
  (memory (export "memory") 17)
  (data (i32.const 1024) "Hello, harbour!\n")
  (func (export "_start") (i32.store (i32.const 2048) (i32.load (i32.const 1024)))))
