/* SPDX-License-Identifier: Apache-2.0 */
/* A service of wasi:http 0.2 in C, on the bindings that wit-bindgen makes: /echo streams the body back, anything else
 * says hello. Its standard library is for WASI preview 1; an adapter inside the component bridges that. */
#include "service.h"

#include <stdlib.h>
#include <string.h>

typedef wasi_io_streams_own_output_stream_t output;
typedef wasi_io_streams_own_input_stream_t input;

static bool send(output out, const uint8_t *p, size_t n)
{
    while (n > 0) {
        service_list_u8_t piece = {(uint8_t *)p, n < 4096 ? n : 4096};
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(
                wasi_io_streams_borrow_output_stream(out), &piece, &error)) {
            wasi_io_streams_stream_error_free(&error);
            return false;
        }
        p += piece.len;
        n -= piece.len;
    }
    return true;
}

static void echo(exports_wasi_http_incoming_handler_own_incoming_request_t request, output out)
{
    wasi_http_types_own_incoming_body_t body;
    input in;
    if (!wasi_http_types_method_incoming_request_consume(wasi_http_types_borrow_incoming_request(request),
                                                         &body) ||
        !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &in))
        abort();
    for (;;) {
        service_list_u8_t piece;
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(in), 65536,
                                                               &piece, &error)) {
            wasi_io_streams_stream_error_free(&error);
            break;
        }
        bool sent = send(out, piece.ptr, piece.len);
        service_list_u8_free(&piece);
        if (!sent)
            break;
    }
    wasi_io_streams_input_stream_drop_own(in);
    wasi_http_types_incoming_body_drop_own(body);
}

void exports_wasi_http_incoming_handler_handle(
    exports_wasi_http_incoming_handler_own_incoming_request_t request,
    exports_wasi_http_incoming_handler_own_response_outparam_t answer)
{
    wasi_http_types_own_fields_t fields = wasi_http_types_constructor_fields();
    service_string_t name;
    service_string_set(&name, "content-type");
    wasi_http_types_field_value_t value = {(uint8_t *)"text/plain", strlen("text/plain")};
    wasi_http_types_header_error_t refused;
    if (!wasi_http_types_method_fields_append(wasi_http_types_borrow_fields(fields), &name, &value, &refused))
        abort();

    wasi_http_types_own_outgoing_response_t response = wasi_http_types_constructor_outgoing_response(fields);
    wasi_http_types_own_outgoing_body_t body;
    if (!wasi_http_types_method_outgoing_response_body(wasi_http_types_borrow_outgoing_response(response),
                                                       &body))
        abort();
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
    wasi_http_types_static_response_outparam_set(answer, &result);

    output out;
    if (!wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &out))
        abort();
    service_string_t path = {NULL, 0};
    (void)wasi_http_types_method_incoming_request_path_with_query(
        wasi_http_types_borrow_incoming_request(request), &path);
    if (path.len >= 5 && memcmp(path.ptr, "/echo", 5) == 0)
        echo(request, out);
    else
        (void)send(out, (const uint8_t *)"Hello from C\n", strlen("Hello from C\n"));
    wasi_io_streams_output_stream_drop_own(out);
    wasi_http_types_error_code_t error;
    if (!wasi_http_types_static_outgoing_body_finish(body, NULL, &error))
        wasi_http_types_error_code_free(&error);
    service_string_free(&path);
    wasi_http_types_incoming_request_drop_own(request);
}
