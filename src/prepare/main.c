/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/limits.h"
#include "base/record.h"
#include "engine/engine.h"
#include "prepare/job.h"
#include "prepare/prepare.h"
#include "prepare/sandbox.h"
#include "prepare/unpack.h"

#include <locale.h>
#include <stdio.h>
#include <sys/syscall.h>

#define COMPILE_MEMORY_BYTES ((uint64_t)6 << 30)
#define UNPACK_MEMORY_BYTES ((uint64_t)512 << 20)
#define COMPILE_CPU_S 600
#define UNPACK_CPU_S 300

static void put_totals(const wh_unpack *u, wh_buf *result)
{
    wh_unpack_totals totals = wh_unpack_result(u);
    wh_record_put_i64(result, "files", (int64_t)totals.entries);
    wh_record_put_i64(result, "bytes", (int64_t)totals.bytes);
    for (size_t i = 0; i < wh_strv_len(totals.modules); i++)
        wh_record_put_str(result, "module", totals.modules[i]);
    wh_job_verdict(result, WH_VERDICT_OK, "");
}

void wh_job_unpack(int out, unsigned layers, bool whiteouts, wh_buf *result)
{
    const wh_unpack_limits limits = {WH_UNPACKED_BYTES_MAX, WH_UNPACKED_FILES_MAX, WH_UNPACKED_RATIO_MAX};
    auto_unpack wh_unpack *u = NULL;
    wh_err err = {0};
    int rc = wh_unpack_new(out, &limits, whiteouts, &u, &err);
    for (unsigned i = 0; rc == 0 && i < layers; i++) {
        rc = wh_unpack_layer(u, WH_PREPARE_LAYER_FD + (int)i, &err);
        if (rc < 0)
            (void)wh_wrap(&err, "layer %u", i + 1);
    }
    bool archive = rc == -EBADMSG || rc == -EPERM || rc == -EFBIG;
    if (rc < 0)
        wh_job_verdict(result, archive ? WH_VERDICT_ARCHIVE : WH_VERDICT_INTERNAL, err.msg);
    else
        put_totals(u, result);
}

typedef struct job {
    enum { JOB_COMPILE, JOB_INSPECT, JOB_UNPACK } kind;
    unsigned profile, layers;
    bool plain;
} job;

static int parse_job(int argc, char **argv, job *ret)
{
    uint64_t layers;
    if (argc == 3 && wh_streq(argv[1], "compile") && wh_profile_parse(argv[2], &ret->profile) == 0) {
        ret->kind = JOB_COMPILE;
        return 0;
    }
    if (argc == 2 && wh_streq(argv[1], "inspect")) {
        ret->kind = JOB_INSPECT;
        return 0;
    }
    if ((argc == 3 || (argc == 4 && wh_streq(argv[3], "plain"))) && wh_streq(argv[1], "unpack") &&
        wh_parse_u64(argv[2], WH_MANIFEST_LAYERS_MAX, &layers) == 0) {
        ret->kind = JOB_UNPACK;
        ret->layers = (unsigned)layers;
        ret->plain = argc == 4;
        return 0;
    }
    return -EINVAL;
}

/* Nothing that the starter forgot to close comes along. */
static void close_others(const job *j)
{
    unsigned first = j->kind == JOB_UNPACK ? WH_PREPARE_LAYER_FD + j->layers : WH_PREPARE_LAYER_FD;
    (void)syscall(SYS_close_range, first, ~0U, 0U);
}

static int run_job(const job *j)
{
    wh_err err = {0};
    auto_buf wh_buf result;
    bool unpack = j->kind == JOB_UNPACK;
    const wh_prepare_sandbox sandbox = {
        .out_dir = unpack ? WH_PREPARE_OUTPUT_FD : -1,
        .memory_bytes = unpack ? UNPACK_MEMORY_BYTES : COMPILE_MEMORY_BYTES,
        .file_bytes = unpack ? WH_UNPACKED_BYTES_MAX : 8 * WH_WASM_BYTES_MAX,
        .cpu_seconds = unpack ? UNPACK_CPU_S : COMPILE_CPU_S,
    };
    wh_buf_init(&result, WH_PREPARE_RESULT_BYTES_MAX);
    close_others(j);
    if (wh_prepare_enter(&sandbox, &err) < 0)
        wh_job_verdict(&result, WH_VERDICT_INTERNAL, err.msg);
    else if (j->kind == JOB_COMPILE)
        wh_job_compile(j->profile, STDIN_FILENO, WH_PREPARE_OUTPUT_FD, &result);
    else if (j->kind == JOB_INSPECT)
        wh_job_inspect(STDIN_FILENO, &result);
    else
        wh_job_unpack(WH_PREPARE_OUTPUT_FD, j->layers, !j->plain, &result);
    if (result.failed)
        return 1;
    return wh_write_all(WH_PREPARE_RESULT_FD, result.p, result.len) < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    job j = {0};
    (void)setlocale(LC_CTYPE, "C.UTF-8"); /* libarchive turns names of other encodings into it */
    if (argc == 2 && wh_streq(argv[1], "identify"))
        return wh_job_identify();
    if (parse_job(argc, argv, &j) < 0) {
        (void)fputs("usage: wherry-prepare identify | compile PROFILE | inspect | unpack LAYERS [plain]\n"
                    "It is started by wherry, with its files as open descriptors.\n",
                    stderr);
        return 2;
    }
    return run_job(&j);
}
