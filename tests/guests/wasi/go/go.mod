module wherry.dev/tests/guests/wasi

go 1.21
