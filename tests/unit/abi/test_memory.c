/* SPDX-License-Identifier: Apache-2.0 */
/* Pointers, enums and flags that are not what they should be; arguments, environment, clocks, random bytes.
 * The words of the traps were taken from Wasmtime 48.0.0. */
#include "base/clock.h"
#include "guest.h"

#define IN(func) "In func wasi_snapshot_preview1::" func " at "
#define CHECK_TRAP(call, words)         \
    do {                                \
        CHECK_INT(call, ==, TRAPPED);   \
        CHECK_STR(g->frame.msg, words); \
    } while (0)

TEST(imports_are_all_there_and_well_formed)
{
    size_t n, p1 = 0;
    const wh_import *imports = wh_wasi_imports(&n);

    for (size_t i = 0; i < n; i++) {
        p1 += wh_streq(imports[i].module, MODULE) ? 1 : 0;
        CHECK(imports[i].sig[0] == '(');
        CHECK(imports[i].fn != NULL);
        CHECK(imports[i].env != NULL);
    }
    CHECK_INT(p1, ==, 46);
}

TEST(results_out_of_bounds_or_misaligned_trap)
{
    auto_guest *g = guest_new(NULL);
    CHECK_TRAP(CALL(g, "clock_time_get", 0, 0, 4),
               IN("clock_time_get") "write timestamp: Pointer not aligned to 8: Region { start: 4, len: 8 }");
    CHECK_TRAP(
        CALL(g, "clock_time_get", 0, 0, 65532),
        IN("clock_time_get") "write timestamp: Pointer out of bounds: Region { start: 65532, len: 8 }");
    CHECK_INT(CALL(g, "clock_time_get", 0, 0, 65528), ==, OK);
    CHECK_TRAP(
        CALL(g, "clock_time_get", 0, 0, -8),
        IN("clock_time_get") "write timestamp: Pointer out of bounds: Region { start: 4294967288, len: 8 }");
    CHECK_TRAP(CALL(g, "fd_fdstat_get", 0, 1),
               IN("fd_fdstat_get") "write fdstat: Pointer not aligned to 2: Region { start: 3, len: 2 }");
    CHECK_TRAP(CALL(g, "fd_fdstat_get", 0, 65530),
               IN("fd_fdstat_get") "write fdstat: Pointer out of bounds: Region { start: 65538, len: 8 }");
    CHECK_TRAP(CALL(g, "fd_filestat_get", 0, 4),
               IN("fd_filestat_get") "write filestat: Pointer not aligned to 8: Region { start: 4, len: 8 }");
    CHECK_TRAP(CALL(g, "fd_write", 1, 0, 0, 2),
               IN("fd_write") "write size: Pointer not aligned to 4: Region { start: 2, len: 4 }");
    CHECK_INT(CALL(g, "clock_time_get", 0, 0, 0), ==, OK); /* null is an address */
}

TEST(buffers_out_of_bounds_trap)
{
    auto_guest *g = guest_new(NULL);
    CHECK_TRAP(CALL(g, "fd_write", 1, 65532, 1, 0), "Pointer out of bounds: Region { start: 65536, len: 4 }");
    CHECK_INT(CALL(g, "fd_write", 1, 65528, 1, 0), ==, OK);
    CHECK_TRAP(CALL(g, "fd_write", 1, 1, 1, 0), "Pointer not aligned to 4: Region { start: 1, len: 4 }");
    CHECK_INT(CALL(g, "fd_write", 1, -1, 0x40000000, 0), ==, ENOMEM_);
    CHECK_INT(CALL(g, "fd_write", 9, 0, 0, 0), ==, EBADF_);
    guest_set32(g, IOV_AT, 65530);
    guest_set32(g, IOV_AT + 4, 10);
    CHECK_TRAP(CALL(g, "fd_write", 1, IOV_AT, 1, RET_AT),
               "Pointer out of bounds: Region { start: 65530, len: 10 }");
    CHECK_TRAP(CALL(g, "random_get", 65530, 10), "Pointer out of bounds: Region { start: 65530, len: 10 }");
    CHECK_INT(CALL(g, "random_get", -1, 0), ==, OK);
    CHECK_TRAP(CALL(g, "path_open", DIR_FD, 0, -1, 5, 0, 0, 0, 0, 0),
               "Pointer out of bounds: Region { start: 4294967295, len: 5 }");
    CHECK_INT(CALL(g, "path_create_directory", 9, 0, 70000), ==, EBADF_);
    CHECK_TRAP(CALL(g, "path_create_directory", DIR_FD, 0, 70000),
               "Pointer out of bounds: Region { start: 0, len: 70000 }");
    CHECK_TRAP(CALL(g, "poll_oneoff", 65530, 0, 1, 0),
               "Pointer out of bounds: Region { start: 65530, len: 8 }");
}

TEST(a_bad_buffer_behind_a_good_one_is_told_next_time)
{
    auto_guest *g = guest_new(NULL);
    guest_set32(g, IOV_AT, BUF_AT);
    guest_set32(g, IOV_AT + 4, 5);
    guest_set32(g, IOV_AT + 8, 65530);
    guest_set32(g, IOV_AT + 12, 10);
    CHECK_INT(CALL(g, "fd_write", 1, IOV_AT, 2, RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 5);
    CHECK_INT(CALL(g, "fd_write", 1, IOV_AT + 8, 1, RET_AT), ==, TRAPPED);
}

TEST(values_that_no_enum_or_flag_has_trap)
{
    auto_guest *g = guest_new(NULL);
    CHECK_TRAP(CALL(g, "fd_advise", DIR_FD, 0, 0, 7),
               IN("fd_advise") "convert Advice: Invalid enum value Advice");
    CHECK_TRAP(CALL(g, "fd_advise", DIR_FD, 0, 0, 300),
               IN("fd_advise") "convert Advice: Int conversion error: TryFromIntError(PosOverflow)");
    CHECK_TRAP(CALL(g, "fd_advise", DIR_FD, 0, 0, -1),
               IN("fd_advise") "convert Advice: Int conversion error: TryFromIntError(NegOverflow)");
    CHECK_TRAP(CALL(g, "clock_time_get", 9, 0, 0),
               IN("clock_time_get") "convert Clockid: Invalid enum value Clockid");
    CHECK_TRAP(CALL(g, "fd_fdstat_set_flags", 0, 32),
               IN("fd_fdstat_set_flags") "convert Fdflags: Invalid flag value Fdflags");
    CHECK_TRAP(CALL(g, "path_open", 3, 2, 0, 5, 0, 0, 0, 0, 0),
               IN("path_open") "convert Lookupflags: Invalid flag value Lookupflags");
    CHECK_TRAP(CALL(g, "path_open", 3, 0, 0, 5, 16, 0, 0, 0, 0),
               IN("path_open") "convert Oflags: Invalid flag value Oflags");
    CHECK_TRAP(CALL(g, "path_open", 3, 0, 0, 5, 0, INT64_C(1) << 40, 0, 0, 0),
               IN("path_open") "convert Rights: Invalid flag value Rights");
    CHECK_TRAP(CALL(g, "fd_seek", 1, 0, 3, 0), IN("fd_seek") "convert Whence: Invalid enum value Whence");
    CHECK_TRAP(CALL(g, "proc_raise", 40), IN("proc_raise") "convert Signal: Invalid enum value Signal");
    CHECK_TRAP(CALL(g, "sock_shutdown", 0, 4),
               IN("sock_shutdown") "convert Sdflags: Invalid flag value Sdflags");
    CHECK_TRAP(CALL(g, "sock_recv", 0, 0, 0, 4, 0, 0),
               IN("sock_recv") "convert Riflags: Invalid flag value Riflags");
    CHECK_TRAP(CALL(g, "sock_send", 0, 0, 0, 70000, 0),
               IN("sock_send") "convert u16: Int conversion error: TryFromIntError(PosOverflow)");
    CHECK_TRAP(CALL(g, "fd_filestat_set_times", 0, 0, 0, 16),
               IN("fd_filestat_set_times") "convert Fstflags: Invalid flag value Fstflags");
}

TEST(no_memory_at_all_traps)
{
    auto_guest *g = guest_new(NULL);
    size_t n;
    wh_slot io[9] = {{0}};
    wh_frame frame = {.user = g->wasi};
    const wh_import *import = wh_wasi_imports(&n);
    CHECK_INT(import->fn(&frame, io, import->env), ==, WH_HOST_TRAP);
    CHECK_STR(frame.msg, "missing required memory export");
}

TEST(the_state_may_stand_behind_a_pointer)
{
    auto_guest *g = guest_new(NULL);
    struct {
        wh_wasi *wasi;
        int other;
    } user = {g->wasi, 1};
    wh_slot io[9] = {{.i32 = 0}, {.i32 = 4}};
    wh_frame frame = {.mem = g->mem, .mem_bytes = PAGE, .user = &user};
    size_t n;
    const wh_import *import = wh_wasi_imports(&n);
    CHECK_STR(import[1].name, "args_sizes_get");
    CHECK_INT(import[1].fn(&frame, io, import[1].env), ==, WH_HOST_OK);
}

TEST(arguments_and_environment_come_over)
{
    char *args[] = {(char[]){"prog"}, (char[]){""}, (char[]){"two words"}, NULL};
    char *env[] = {(char[]){"A=1"}, NULL};
    wh_wasi_config config = {
        .args = args, .env = env, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .trace_fd = -1};
    auto_guest *g = guest_new(&config);
    CHECK_INT(CALL(g, "args_sizes_get", 0, 4), ==, OK);
    CHECK_INT(guest_u32(g, 0), ==, 3);
    CHECK_INT(guest_u32(g, 4), ==, 16);
    CHECK_INT(CALL(g, "args_get", 100, 201), ==, OK);
    CHECK_MEM(g->mem + 201, "prog\0\0two words", 16);
    CHECK_INT(guest_u32(g, 100), ==, 201);
    CHECK_INT(guest_u32(g, 104), ==, 206);
    CHECK_INT(guest_u32(g, 108), ==, 207);
    CHECK_TRAP(CALL(g, "args_get", 2, 0), "Pointer not aligned to 4: Region { start: 2, len: 4 }");
    CHECK_TRAP(CALL(g, "args_get", 0, 65533), "Pointer out of bounds: Region { start: 65533, len: 5 }");
    CHECK_INT(CALL(g, "args_get", 0, -2), ==, TRAPPED);
    CHECK_INT(CALL(g, "environ_sizes_get", 0, 4), ==, OK);
    CHECK_INT(guest_u32(g, 0), ==, 1);
    CHECK_INT(guest_u32(g, 4), ==, 4);
    CHECK_INT(CALL(g, "environ_get", 0, 16), ==, OK);
    CHECK_MEM(g->mem + 16, "A=1", 4);
}

TEST(arguments_have_a_limit)
{
    size_t n = (1u << 20) - 1; /* with its NUL: exactly the limit */
    char *big = malloc(n + 2);
    CHECK(big != NULL);
    memset(big, 'x', n + 1);
    big[n] = '\0';
    char *args[] = {big, NULL};
    wh_wasi_config config = {.args = args, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .trace_fd = -1};
    wh_wasi *wasi = NULL;
    wh_err err = {0};
    CHECK_OK(wh_wasi_new(&config, &wasi, &err), &err);
    wh_wasi_free(wasi);
    wasi = NULL;
    big[n] = 'x';
    big[n + 1] = '\0';
    CHECK_ERR(wh_wasi_new(&config, &wasi, &err), -E2BIG, &err, "more than 1048576 bytes");
    CHECK(wasi == NULL);
    free(big);
}

TEST(clocks)
{
    auto_guest *g = guest_new(NULL);
    CHECK_INT(CALL(g, "clock_res_get", 0, 8), ==, OK);
    CHECK_INT(guest_u64(g, 8), >=, 1);
    CHECK_INT(CALL(g, "clock_res_get", 1, 8), ==, OK);
    CHECK_INT(CALL(g, "clock_res_get", 2, 8), ==, EBADF_);
    CHECK_INT(CALL(g, "clock_time_get", 3, 0, 8), ==, EBADF_);
    CHECK_INT(CALL(g, "clock_time_get", 0, 0, 8), ==, OK);
    CHECK_INT(guest_u64(g, 8), >, INT64_C(1700000000) * 1000000000);
    CHECK_INT(CALL(g, "clock_time_get", 1, 0, 8), ==, OK);
    CHECK_INT(guest_u64(g, 8), <, INT64_C(60) * 1000000000); /* it begins with the guest */
    CHECK_INT(CALL(g, "clock_time_get", 1, 0, 16), ==, OK);
    CHECK_INT(guest_u64(g, 16), >=, guest_u64(g, 8));
}

TEST(random_bytes_differ)
{
    auto_guest *g = guest_new(NULL);
    CHECK_INT(CALL(g, "random_get", 0, 4096), ==, OK);
    CHECK(memcmp(g->mem, g->mem + 2048, 2048) != 0);
    CHECK_INT(g->mem[4096], ==, 0);
    CHECK_INT(CALL(g, "random_get", 0, 65536), ==, OK);
    memset(g->mem, 0, PAGE);
    for (uint32_t i = 0; i < 200; i++) /* more than one filling of the small buffer */
        CHECK_INT(CALL(g, "random_get", 16 * i, 16), ==, OK);
    for (uint32_t i = 0; i < 200; i++)
        for (uint32_t k = 0; k < i; k++)
            CHECK(memcmp(g->mem + 16 * (size_t)i, g->mem + 16 * (size_t)k, 16) != 0);
    CHECK_INT(guest_u64(g, 3200), ==, 0);
}

TEST(exit_raise_yield)
{
    auto_guest *g = guest_new(NULL);
    CHECK_INT(CALL(g, "proc_exit", 7), ==, EXITED);
    CHECK_INT(g->frame.exit_code, ==, 7);
    CHECK_INT(CALL(g, "proc_exit", 200), ==, EXITED);
    CHECK_INT(g->frame.exit_code, ==, 200);
    CHECK_INT(CALL(g, "proc_exit", -1), ==, EXITED);
    CHECK_INT(g->frame.exit_code, ==, 255);
    CHECK_INT(CALL(g, "proc_raise", 6), ==, ENOTSUP_);
    CHECK_INT(CALL(g, "sched_yield"), ==, OK);
}

/* Every call with every argument at the edges: whatever it answers, it must not crash, nor touch a byte
 * outside. */
TEST_TIMEOUT(edges_of_every_argument, 120)
{
    static const int64_t edges[] = {0, 1, 3, 4, 65528, 65535, 65536, 0x7fffffff, -1, INT64_MIN};
    auto_guest *g = guest_new(NULL);
    size_t n;
    const wh_import *imports = wh_wasi_imports(&n);
    wh_rng rng = {42};

    host_write(g, "f", "content");
    CHECK_INT(open_at(g, 0, "f", 0, RW, 0, NULL), ==, OK);
    for (size_t i = 0; i < n; i++) {
        for (int round = 0; round < 2000; round++) {
            int64_t args[16] = {0};
            for (size_t j = 1; j < WH_ARRAY_LEN(args); j++)
                args[j] = edges[wh_rng_below(&rng, WH_ARRAY_LEN(edges))];
            if (wh_streq(imports[i].name, "fd_close") || wh_streq(imports[i].name, "fd_renumber"))
                args[1] = 99;
            g->module = imports[i].module;
            (void)guest_call(g, imports[i].name, args);
            memset(g->mem, 0, PAGE); /* so that poll_oneoff finds clocks that have come */
        }
    }
}
