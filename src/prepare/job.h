/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs of wherry-prepare: each writes its result record, and returns the exit code. */
#pragma once

#include "base/buf.h"
#include "prepare/component.h"
#include "prepare/wasm.h"

/* The whole input, mapped. NULL and a verdict in the record when it is empty or too large. */
const void *wh_job_map_input(int fd, size_t *ret_n, wh_buf *result);
/* The outline of a module and what it means for the result; false with a verdict when it is none. */
bool wh_job_outline(const void *wasm, size_t n, wh_wasm_outline *ret, wh_buf *result);
/* The same of a component. */
bool wh_job_component(const void *wasm, size_t n, wh_component_outline *ret, wh_buf *result);
void wh_job_verdict(wh_buf *result, const char *verdict, const char *message);

void wh_job_compile(unsigned profile, int in, int out, wh_buf *result);
void wh_job_inspect(int in, wh_buf *result);
void wh_job_unpack(int out, unsigned layers, bool whiteouts, wh_buf *result);
int wh_job_identify(void);
