(module
  (func $down (export "down") (param i64) (result i64)
    (if (result i64) (i64.eqz (local.get 0))
      (then (i64.const 99))
      (else (return_call $down (i64.sub (local.get 0) (i64.const 1)))))))
