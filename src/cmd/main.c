/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "cmd/cmd.h"

#include <stdio.h>

wh_cmd_dirs wh_cmd_dirs_given;

int wh_cmd_fail(const wh_err *err)
{
    fprintf(stderr, "wherry: %s\n", err->msg);
    return 1;
}

int wh_cmd_usage(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fputs("wherry: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return 2;
}

int main(int argc, char **argv)
{
    const wh_verb verbs[] = {
        wh_cmd_run,           wh_cmd_node,          wh_cmd_ps,       wh_cmd_logs,
        wh_cmd_describe,      wh_cmd_stop,          wh_cmd_top,      wh_cmd_image_pull,
        wh_cmd_image_push,    wh_cmd_image_inspect, wh_cmd_image_ls, wh_cmd_image_rm,
        wh_cmd_image_compile, wh_cmd_image_gc,      wh_cmd_doctor,   {0},
    };

    wh_log_setup("wherry", STDERR_FILENO, WH_LOG_WARN, WH_LOG_AUTO);
    return wh_verbs_main("wherry", WH_VERSION,
                         "WebAssembly as a native workload of Kubernetes and of one machine", verbs, argc,
                         argv);
}
