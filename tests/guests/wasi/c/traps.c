/* SPDX-License-Identifier: Apache-2.0 */
/* One call that traps, chosen by the first argument; no argument prints how many there are. */
#include "wasi.h"

#include <stdlib.h>

#define END ((void *)0xfffffff8u)
#define ODD ((void *)4097)

static void call(int which)
{
    uint32_t fd = 0;
    switch (which) {
    case 0:
        w_clock_time_get(9, 0, END);
        break;
    case 1:
        w_clock_time_get(0, 0, END);
        break;
    case 2:
        w_clock_time_get(1, 0, (void *)4100);
        break;
    case 3:
        w_clock_res_get(0xffffffff, END);
        break;
    case 4:
        w_fd_advise(3, 0, 0, 6);
        break;
    case 5:
        w_fd_advise(3, 0, 0, 256);
        break;
    case 6:
        w_fd_fdstat_get(0, ODD);
        break;
    case 7:
        w_fd_fdstat_get(0, END);
        break;
    case 8:
        w_fd_fdstat_set_flags(3, 32);
        break;
    case 9:
        w_fd_filestat_get(3, END);
        break;
    case 10:
        w_fd_filestat_get(3, (void *)4100);
        break;
    case 11:
        w_fd_write(1, END, 1, &fd);
        break;
    case 12:
        w_fd_write(1, &(iov){END, 100}, 1, &fd);
        break;
    case 13:
        w_fd_write(1, NULL, 0, ODD);
        break;
    case 14:
        w_fd_read(0, &(iov){END, 100}, 1, &fd);
        break;
    case 15:
        w_fd_read(99, &(iov){END, 100}, 1, &fd);
        break;
    case 16:
        w_fd_seek(3, 0, 3, END);
        break;
    case 17:
        w_path_open(3, 2, "f", 1, 0, 0, 0, 0, &fd);
        break;
    case 18:
        w_path_open(3, 0, "f", 1, 16, 0, 0, 0, &fd);
        break;
    case 19:
        w_path_open(3, 0, "f", 1, 0, UINT64_C(1) << 30, 0, 0, &fd);
        break;
    case 20:
        w_path_open(3, 0, "f", 1, 0, 0, 0, 32, &fd);
        break;
    case 21:
        w_path_open(3, 0, END, 10, 0, 0, 0, 0, &fd);
        break;
    case 22:
        w_path_open(3, 0, "f", 1, 1, 0, 0, 0, END);
        break;
    case 23:
        w_path_create_directory(3, END, 100);
        break;
    case 24:
        w_path_rename(3, "f", 1, 3, END, 100);
        break;
    case 25:
        w_poll_oneoff(END, END, 1, &fd);
        break;
    case 26:
        w_poll_oneoff((void *)4097, END, 1, &fd);
        break;
    case 27:
        w_random_get(END, 100);
        break;
    case 28:
        w_proc_raise(31);
        break;
    case 29:
        w_proc_raise(300);
        break;
    case 30:
        w_sock_shutdown(0, 4);
        break;
    case 31:
        w_fd_prestat_get(3, END);
        break;
    case 32:
        w_fd_prestat_dir_name(3, END, 10);
        break;
    case 33:
        w_fd_readdir(3, END, 100, 0, &fd);
        break;
    case 34:
        w_args_get(END, END);
        break;
    case 35:
        w_args_sizes_get(END, END);
        break;
    case 36:
        w_environ_get((void *)4097, (void *)4096);
        break;
    case 37:
        w_path_readlink(3, "link", 4, END, 100, &fd);
        break;
    case 38:
        w_fd_filestat_set_times(3, 0, 0, 16);
        break;
    case 39:
        w_path_open(3, 0, "f", 1, 1, 0, 0, 0, &fd);
        w_fd_tell(fd, END);
        break;
    case 40:
        w_fd_fdstat_set_rights(0, UINT64_C(1) << 63, 0);
        break;
    case 41:
        __builtin_trap();
    case 42:
        *(volatile int *)END = 1;
        break;
    default:
        break;
    }
}
#define CASES 43

int main(int argc, char **argv)
{
    w_path_symlink(S("target"), ROOT, S("link"));
    if (argc < 2)
        printf("%d\n", CASES);
    else
        call((int)strtol(argv[1], NULL, 10));
    return 0;
}
