module wherry.dev/tests/guests/http

go 1.21
