/* SPDX-License-Identifier: Apache-2.0 */
/* What upstream's agnhost image does in the end-to-end specs, as far as a guest of WASI preview 1 can: the
 * commands pause, mounttest, entrypoint-tester, logs-generator, env and, on the listening sockets that it was
 * started with, netexec, test-webserver, liveness and serve-hostname. Output is upstream's, to the letter
 * where specs read it. */
#include "shell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

static const char new_content[] = "mount-tester new file\n";

/* ---- flags: --name=value, --name value ---- */

static const char *flag(char **argv, const char *name)
{
    size_t n = strlen(name);
    for (int i = 1; argv[i] != NULL; i++) {
        const char *at = argv[i] + strspn(argv[i], "-");
        if (at == argv[i] || strncmp(at, name, n) != 0)
            continue;
        if (at[n] == '=')
            return at + n + 1;
        if (at[n] == '\0')
            return argv[i + 1] != NULL ? argv[i + 1] : "";
    }
    return NULL;
}

static long flag_number(char **argv, const char *name, long otherwise)
{
    const char *value = flag(argv, name);
    return value != NULL ? strtol(value, NULL, 10) : otherwise;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* ---- pause ---- */

static int run_pause(char **argv)
{
    (void)argv;
    puts("Paused");
    fflush(stdout);
    for (;;)
        pause_ms(3600000);
}

/* ---- mounttest ---- */

/* Text as Go's %q prints it, for the characters that paths have. */
static void print_path(const char *before, const char *path, const char *after)
{
    printf("%s\"%s\"%s", before, path, after);
}

/* Reads a file into memory of which the caller frees *ret. */
static int read_file(const char *path, char **ret)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return -1;
    size_t n = 0, room = 1 << 20;
    char *data = malloc(room + 1);
    if (data != NULL)
        n = fread(data, 1, room, file);
    int rc = data == NULL || ferror(file) ? -1 : 0;
    fclose(file);
    if (rc != 0) {
        free(data);
        return -1;
    }
    data[n] = '\0';
    *ret = data;
    return 0;
}

static int show_content(const char *path)
{
    char *data;
    if (read_file(path, &data) != 0) {
        print_path("error reading file content for ", path, ": ");
        printf("open %s: %s\n", path, strerror(errno));
        return -1;
    }
    print_path("content of file ", path, ": ");
    printf("%s\n", data);
    free(data);
    return 0;
}

static int write_new(const char *path)
{
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(new_content, file) < 0 || fclose(file) != 0) {
        print_path("error writing new file ", path, ": ");
        printf("open %s: %s\n", path, strerror(errno));
        return -1;
    }
    return show_content(path);
}

/* Preview 1 tells a file's type alone; permissions, owners and file systems are honestly unknown. */
static int show_mode(const char *what, const char *path, bool with_type)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        print_path("error from Stat(", path, "): ");
        printf("stat %s: %s\n", path, strerror(errno));
        return -1;
    }
    printf("%s of file \"%s\": %s?????????\n", what, path, with_type && S_ISDIR(st.st_mode) ? "d" : "-");
    return 0;
}

static int show_in_loop(const char *path, long seconds, bool stop_when_expected)
{
    int rc = -1;
    time_t end = time(NULL) + seconds;
    for (; time(NULL) < end; pause_ms(2000)) {
        char *data;
        rc = read_file(path, &data);
        if (rc != 0) {
            printf("Error reading file %s: open %s: %s, retrying\n", path, path, strerror(errno));
            fflush(stdout);
            continue;
        }
        print_path("content of file ", path, ": ");
        printf("%s\n", data);
        bool expected = strcmp(data, new_content) == 0;
        free(data);
        if (stop_when_expected && expected)
            break;
        if (stop_when_expected)
            printf("Unexpected content. Expected: %s. Retrying\n", new_content);
        fflush(stdout);
    }
    return rc;
}

static int run_mounttest(char **argv)
{
    static const char *const news[] = {"new_file_0644", "new_file_0666", "new_file_0660", "new_file_0777"};
    const char *path;
    int failures = 0;
    if ((path = flag(argv, "fs_type")) != NULL)
        printf("mount type of \"%s\": unknown\n", path);
    for (size_t i = 0; i < sizeof news / sizeof *news; i++)
        if ((path = flag(argv, news[i])) != NULL && write_new(path) != 0)
            failures++;
    if ((path = flag(argv, "file_mode")) != NULL && show_mode("mode", path, true) != 0)
        failures++;
    if ((path = flag(argv, "file_perm")) != NULL && show_mode("perms", path, false) != 0)
        failures++;
    if ((path = flag(argv, "file_owner")) != NULL)
        printf("owner UID of \"%s\": unknown\nowner GID of \"%s\": unknown\n", path, path);
    if ((path = flag(argv, "file_content")) != NULL && show_content(path) != 0)
        failures++;
    const char *stop = flag(argv, "break_on_expected_content");
    if ((path = flag(argv, "file_content_in_loop")) != NULL &&
        show_in_loop(path, flag_number(argv, "retry_time", 180),
                     stop == NULL || strcmp(stop, "false") != 0) != 0)
        failures++;
    return failures > 0;
}

/* ---- entrypoint-tester, env, logs-generator ---- */

static int run_entrypoint_tester(char **argv)
{
    for (int i = 0; argv[i] != NULL; i++)
        printf("%s%s", i == 0 ? "[" : " ", argv[i]);
    puts("]");
    return 0;
}

static int run_env(char **argv)
{
    extern char **environ;
    (void)argv;
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++)
        puts(*variable);
    return 0;
}

/* The commands etc-hosts, dns-suffix and dns-server-list print what the pod was given as files. */
static int print_file(const char *path, const char *keyword)
{
    char line[1024];
    FILE *file = fopen(path, "r");
    size_t n = strlen(keyword);
    if (file == NULL) {
        printf("open %s: %s\n", path, strerror(errno));
        return 1;
    }
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, keyword, n) == 0)
            fputs(line + n, stdout);
    fclose(file);
    return 0;
}

static int run_etc_hosts(char **argv)
{
    (void)argv;
    return print_file("/etc/hosts", "");
}

static int run_dns_suffix(char **argv)
{
    (void)argv;
    return print_file("/etc/resolv.conf", "search ");
}

static int run_dns_server_list(char **argv)
{
    (void)argv;
    return print_file("/etc/resolv.conf", "nameserver ");
}

/* Go's durations, as far as tests write them: a number with ms, s, m or h. */
static long duration_ms(const char *text)
{
    char *unit;
    double value = strtod(text, &unit);
    double factor = strcmp(unit, "ms") == 0 ? 1 : *unit == 'm' ? 60000 : *unit == 'h' ? 3600000 : 1000;
    return (long)(value * factor);
}

/* A line of klog, as the API server's request log has them. */
static int run_logs_generator(char **argv)
{
    static const char *const methods[] = {"GET", "POST", "PUT"}, *const namespaces[] = {"kube-system",
                                                                                        "default", "ns"};
    const char *total = flag(argv, "log-lines-total"), *duration = flag(argv, "run-duration");
    total = total != NULL ? total : flag(argv, "t");
    duration = duration != NULL ? duration : flag(argv, "d");
    long lines = total != NULL ? strtol(total, NULL, 10) : 0,
         ms = duration != NULL ? duration_ms(duration) : 0;
    if (lines <= 0 || ms <= 0) {
        fputs("logs-generator: give --log-lines-total and --run-duration above 0\n", stderr);
        return 255;
    }
    unsigned seed = (unsigned)time(NULL);
    for (long id = 0; id < lines; id++) {
        struct timespec now;
        struct tm parts;
        char stamp[32];
        clock_gettime(CLOCK_REALTIME, &now);
        strftime(stamp, sizeof stamp, "%m%d %H:%M:%S", gmtime_r(&now.tv_sec, &parts));
        seed = seed * 1103515245 + 12345;
        printf("I%s.%06ld       1 logs_generator.go:76] %ld %s /api/v1/namespaces/%s/pods/%.*s %u\n", stamp,
               now.tv_nsec / 1000, id, methods[seed / 7 % 3], namespaces[seed / 29 % 3],
               (int)(3 + seed / 31 % 2), &"k4x9vq2m"[seed / 64 % 4], 200 + seed / 128 % 400);
        fflush(stdout);
        if (id + 1 < lines)
            pause_ms(ms / lines);
    }
    return 0;
}

/* ---- servers ---- */

static time_t began;

struct answer {
    int status;
    const char *type;
    char body[4096];
    char location[512];
};

typedef void handler_fn(const char *method, char *path, char *query, struct answer *answer);

static const char *host_name(void)
{
    static char name[256];
    FILE *file = fopen("/etc/hostname", "r");
    const char *variable = getenv("HOSTNAME");
    if (file != NULL && fgets(name, sizeof name, file) != NULL)
        name[strcspn(name, "\n")] = '\0';
    else
        snprintf(name, sizeof name, "%s", variable != NULL ? variable : "localhost");
    if (file != NULL)
        fclose(file);
    return name;
}

/* The value of a query's parameter, unescaped in place; "" when it is not there. */
static const char *parameter(char *query, const char *name)
{
    size_t n = strlen(name);
    for (char *at = query; at != NULL && *at != '\0'; at = *at == '&' ? at + 1 : at) {
        char *end = at + strcspn(at, "&");
        if (strncmp(at, name, n) != 0 || at[n] != '=') {
            at = end;
            continue;
        }
        *end = '\0';
        char *from = at + n + 1, *to = from;
        const char *value = from;
        for (; *from != '\0'; from++) {
            char hex[3] = {from[0], from[0] == '%' ? from[1] : '\0',
                           from[0] == '%' && from[1] ? from[2] : '\0'};
            if (*from == '%' && hex[2] != '\0') {
                *to++ = (char)strtol(hex + 1, NULL, 16);
                from += 2;
            } else {
                *to++ = *from == '+' ? ' ' : *from;
            }
        }
        *to = '\0';
        return value;
    }
    return "";
}

static void handle_liveness(const char *method, char *path, char *query, struct answer *answer)
{
    long age = (long)(time(NULL) - began);
    (void)method;
    if (strcmp(path, "/healthz") == 0 && age > 10) {
        answer->status = 500;
        snprintf(answer->body, sizeof answer->body, "error: %ld", age);
    } else if (strcmp(path, "/redirect") == 0) {
        answer->status = 302;
        snprintf(answer->location, sizeof answer->location, "%s", parameter(query, "loc"));
    } else if (strcmp(path, "/healthz") == 0 || strcmp(path, "/started") == 0) {
        snprintf(answer->body, sizeof answer->body, "ok");
    } else {
        answer->status = 404;
    }
}

static void handle_hostname(const char *method, char *path, char *query, struct answer *answer)
{
    (void)method, (void)path, (void)query;
    snprintf(answer->body, sizeof answer->body, "%s", host_name());
}

static void handle_netexec(const char *method, char *path, char *query, struct answer *answer)
{
    if (strcmp(path, "/") == 0) {
        snprintf(answer->body, sizeof answer->body, "NOW: %lld", (long long)time(NULL));
    } else if (strcasecmp(path, "/hostname") == 0) {
        handle_hostname(method, path, query, answer);
    } else if (strcmp(path, "/echo") == 0) {
        const char *message = parameter(query, "msg");
        snprintf(answer->body, sizeof answer->body, "%s", message);
        printf("GET /echo?msg=%s\n", message);
    } else if (strcmp(path, "/exit") == 0 || strcmp(path, "/shutdown") == 0) {
        exit((int)strtol(parameter(query, "code"), NULL, 10));
    } else if (strcmp(path, "/envvar") == 0) {
        const char *value = getenv(parameter(query, "var"));
        snprintf(answer->body, sizeof answer->body, "%s", value != NULL ? value : "");
    } else if (strcmp(path, "/redirect") == 0) {
        answer->status = 302;
        snprintf(answer->location, sizeof answer->location, "%s", parameter(query, "loc"));
    } else if (strcmp(path, "/healthz") != 0 && strcmp(path, "/readyz") != 0) {
        answer->status = 404;
    }
}

static void handle_file(const char *method, char *path, char *query, struct answer *answer)
{
    char *data;
    struct stat st;
    (void)method, (void)query;
    if (strcmp(path, "/") == 0 || (stat(path, &st) == 0 && S_ISDIR(st.st_mode))) {
        snprintf(answer->body, sizeof answer->body, "<pre>\n</pre>\n");
        answer->type = "text/html; charset=utf-8";
    } else if (read_file(path, &data) == 0) {
        snprintf(answer->body, sizeof answer->body, "%s", data);
        free(data);
    } else {
        answer->status = 404;
        snprintf(answer->body, sizeof answer->body, "404 page not found\n");
    }
}

/* Everything of a request up to its empty line; what follows is not looked at. */
static bool read_head(int fd, char *head, size_t room)
{
    size_t n = 0;
    while (n + 1 < room) {
        ssize_t got = read(fd, head + n, room - 1 - n);
        if (got <= 0)
            return false;
        n += (size_t)got;
        head[n] = '\0';
        if (strstr(head, "\r\n\r\n") != NULL)
            return true;
    }
    return false;
}

static void write_all(int fd, const char *data, size_t n)
{
    for (ssize_t wrote; n > 0; data += wrote, n -= (size_t)wrote) {
        wrote = write(fd, data, n);
        if (wrote <= 0)
            return;
    }
}

static void answer_one(int fd, handler_fn *handler)
{
    char head[8192], method[16] = "", target[4096] = "", out[8192];
    if (!read_head(fd, head, sizeof head) || sscanf(head, "%15s %4095s", method, target) != 2)
        return;
    struct answer answer = {.status = 200, .type = "text/plain; charset=utf-8"};
    char *query = strchr(target, '?');
    if (query != NULL)
        *query++ = '\0';
    handler(method, target, query, &answer);
    const char *reason = answer.status == 200 ? "OK" : answer.status == 302 ? "Found" : "Error";
    int n = snprintf(
        out, sizeof out,
        "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s%sConnection: close\r\n\r\n%s",
        answer.status, reason, answer.type, strlen(answer.body), answer.location[0] ? "Location: " : "",
        answer.location, answer.location[0] ? "\r\n" : "", strcmp(method, "HEAD") == 0 ? "" : answer.body);
    if (n > 0 && (size_t)n < sizeof out)
        write_all(fd, out, (size_t)n);
}

/* The first listening socket that the host handed over. */
static int find_listener(void)
{
    for (int fd = 3; fd < 64; fd++) {
        __wasi_fdstat_t st;
        if (__wasi_fd_fdstat_get((__wasi_fd_t)fd, &st) != 0)
            continue;
        if (st.fs_filetype == __WASI_FILETYPE_SOCKET_STREAM)
            return fd;
    }
    return -1;
}

static int serve(handler_fn *handler)
{
    int listener = find_listener();
    if (listener < 0) {
        fputs("agnhost: no listening socket was handed over: nothing is served\n", stderr);
        return run_pause(NULL);
    }
    puts("serving");
    fflush(stdout);
    for (;;) {
        __wasi_fd_t fd;
        __wasi_errno_t error = __wasi_sock_accept((__wasi_fd_t)listener, 0, &fd);
        if (error == __WASI_ERRNO_AGAIN) { /* a socket that does not block: look again soon */
            pause_ms(10);
            continue;
        }
        if (error != 0) {
            fprintf(stderr, "agnhost: accept: %s\n", strerror(error));
            return 1;
        }
        answer_one((int)fd, handler);
        close((int)fd);
        fflush(stdout);
    }
}

static int run_liveness(char **argv)
{
    (void)argv;
    return serve(handle_liveness);
}

static int run_netexec(char **argv)
{
    (void)argv;
    return serve(handle_netexec);
}

static int run_serve_hostname(char **argv)
{
    (void)argv;
    return serve(handle_hostname);
}

static int run_test_webserver(char **argv)
{
    (void)argv;
    return serve(handle_file);
}

static const struct command {
    const char *name;
    int (*run)(char **argv);
} commands[] = {
    {"dns-server-list", run_dns_server_list},
    {"dns-suffix", run_dns_suffix},
    {"entrypoint-tester", run_entrypoint_tester},
    {"env", run_env},
    {"etc-hosts", run_etc_hosts},
    {"liveness", run_liveness},
    {"logs-generator", run_logs_generator},
    {"mounttest", run_mounttest},
    {"netexec", run_netexec},
    {"pause", run_pause},
    {"serve-hostname", run_serve_hostname},
    {"test-webserver", run_test_webserver},
};

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "pause";
    const struct applet *applet = argc > 0 ? applet_find(argv[0]) : NULL;
    if (applet != NULL)
        return applet->run(argc, argv, &(struct io){.in = stdin, .out = stdout, .err = stderr});
    began = time(NULL);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argv);
    fprintf(stderr, "agnhost: '%s' is not a command that this guest has\n", name);
    return 1;
}
