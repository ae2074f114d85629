/* SPDX-License-Identifier: Apache-2.0 */
/* What a runner is told about its container: a record (base/record.h), sealed in a memfd. Descriptors are
 * named by their number in the runner. Whoever starts a runner (the agent through the keeper, or `wherry run`
 * directly) writes it with wh_runspec_write; the runner reads it with wh_runspec_read. */
#pragma once

#include "base/buf.h"
#include "base/clock.h"

#define WH_RUNSPEC_VERSION 1
#define WH_RUNSPEC_FD 3 /* where a runner finds it; 0, 1, 2 are stdin, stdout, stderr */
/* The runner's argument for debugging under `wherry run --no-sandbox`: no seccomp, no Landlock. Not in the
 * spec, since the first filter stands before the spec is read. A keeper never passes it. */
#define WH_RUNNER_NO_SANDBOX "--no-sandbox"
#define WH_RUNSPEC_DIRS_MAX 64
#define WH_RUNSPEC_STACK_MAX \
    (2UL << 20)                   /* a quarter of a main thread's usual stack; the engine takes no more */
#define WH_RUNSPEC_ARGS_MAX 16384 /* arguments and environment variables */

/* Tells the guest the number of its stop descriptor: see runner/control.h. */
#define WH_STOP_FD_ENV "WHERRY_STOP_FD"

/* Exit codes that are ours and not the guest's; a stop is 128 + its signal. */
#define WH_EXIT_START_ERROR 128
#define WH_EXIT_TRAP 134
#define WH_EXIT_KILLED 137 /* out of memory, past its deadline */

typedef struct wh_runspec_dir {
    char *guest_path; /* absolute */
    int fd;           /* O_PATH or O_RDONLY directory, as a rule a detached mount */
    bool read_only;
} wh_runspec_dir;

/* What becomes of the module or component. A command's exit code is the container's; what serves answers HTTP on
 * listen_fds until it is stopped. */
typedef enum {
    WH_RUNSPEC_COMMAND, /* runs to its end: _start, `invoke`, or wasi:cli/run */
    WH_RUNSPEC_WAGI,    /* a WASI preview 1 command per request, CGI style; code of the shared profile */
    WH_RUNSPEC_STREAM,  /* the same, body in and body out */
    WH_RUNSPEC_HTTP,    /* a wasi:http component: wherry-runner-component and code with WH_PROFILE_CM */
} wh_runspec_mode;
/* "command", "wagi", "stream", "http"; NULL for none of them. */
const char *wh_runspec_mode_name(unsigned mode);

#define WH_RUNSPEC_AT_ONCE_MAX 4096
#define WH_RUNSPEC_QUEUE_MAX 65536

/* How it is served. Everywhere 0 is the default of serve/serve.h, or none. A descriptor 0 is none, too. */
typedef struct wh_runspec_serve {
    unsigned mode;           /* wh_runspec_mode */
    unsigned at_once, queue; /* requests inside guests; requests that wait for a place */
    unsigned reuse;          /* requests per instance; 0, 1: fresh each time */
    wh_time queue_time, time;
    wh_time idle;                /* asks to go dormant after that (control.h, op=idle); 0: never */
    uint64_t body_bytes_max;     /* of a request; 0: no limit */
    int tls_cert_fd, tls_key_fd; /* PEM files, read at the start; a -tls runner only */
    bool access_log;             /* one line per request to the log */
} wh_runspec_serve;

typedef struct wh_runspec {
    char *id;   /* container id, for messages */
    char *name; /* container name, for the log prefix of the foreground form */
    unsigned profile;
    int code_fd;            /* the compiled module, authenticated by the starter */
    int log_fd;             /* O_APPEND file for the CRI log format; -1: plain bytes to descriptors 1 and 2 */
    int control_fd;         /* seqpacket socket to the keeper, see runner/control.h; -1: none */
    int end_fd;             /* file that takes the end record before the runner leaves; -1: none */
    int stop_signal;        /* what a stop request is called: SIGTERM by default */
    bool trace;             /* one line per host call to descriptor 2 */
    bool landlock_optional; /* go on, and say so, where the kernel has none */
    uint64_t memory_bytes_max; /* of linear memory; 0: no limit below 4 GiB */
    uint64_t stack_bytes_max;  /* up to WH_RUNSPEC_STACK_MAX; 0: the engine's default */
    /* From the guest's start, asleep or not; then it is ended (exit 137, DeadlineExceeded). 0: none. */
    wh_time deadline;
    char *invoke;       /* exported function to call instead of _start, or NULL */
    char **args, **env; /* args[0] is the program's name; invoke: the call's arguments follow it */
    wh_runspec_dir *dirs;
    size_t n_dirs;
    int *listen_fds;
    size_t n_listen;
    wh_runspec_serve serve;
    int netd_fd; /* a pod channel of netd (netd/netd.h), for components that use the network; 0: none */
    int ca_fd;   /* PEM file of roots for outgoing https; 0: none */
} wh_runspec;

/* `out` takes up to WH_RECORD_BYTES_MAX. -E2BIG when arguments, environment or lists pass their limits. */
int wh_runspec_write(const wh_runspec *spec, wh_buf *out, wh_err *err);
/* The same as a sealed memfd, ready to become descriptor WH_RUNSPEC_FD. Returns it, or a negative errno. */
int wh_runspec_memfd(const wh_runspec *spec, wh_err *err);
/* Reads one that the keeper passed on: every field is checked. *ret is the caller's to free. */
int wh_runspec_read(const void *data, size_t n, wh_runspec **ret, wh_err *err);
void wh_runspec_free(wh_runspec *spec);
WH_DEFINE_CLEANUP(wh_cleanup_runspec, wh_runspec *, wh_runspec_free);
#define auto_runspec __attribute__((cleanup(wh_cleanup_runspec)))

/* How a guest ended, as the runner saw it; also a record. A runner that was killed leaves none. */
typedef struct wh_end_record {
    int exit_code; /* as a container's: 0..255; 128 + signal for a stop, 137 out of memory, 134 trap */
    /* "Completed", "Error", "Trap", "OutOfMemory", "StackOverflow", "DeadlineExceeded", "Stopped", or
     * "StartError": it never ran, and the message says why. */
    char reason[32];
    char message[1024];    /* for people: the trap and its backtrace */
    wh_time guest_start;   /* real time of the guest's first instruction; 0: never */
    wh_time end;           /* real time */
    uint64_t memory_bytes; /* linear memory at the end */
} wh_end_record;
/* Async-signal-safe: one pwrite, no allocation. */
int wh_end_record_write(int fd, const wh_end_record *end);
/* -ENODATA when the file is empty or not whole, -EBADMSG when it is something else. */
int wh_end_record_read(int fd, wh_end_record *ret, wh_err *err);
