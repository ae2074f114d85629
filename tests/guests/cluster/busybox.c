/* SPDX-License-Identifier: Apache-2.0 */
/* The guest that is the shell and its commands, and nothing else. */
#include "shell.h"

int main(int argc, char **argv)
{
    struct io io = {.in = stdin, .out = stdout, .err = stderr};
    const struct applet *applet = argc > 0 ? applet_find(argv[0]) : NULL;
    int status = 127;
    if (applet != NULL)
        status = applet->run(argc, argv, &io);
    else if (argc > 1)
        status = applet_find("busybox")->run(argc, argv,
                                             &io); /* the image's own entry point, whatever it is called */
    else
        fprintf(stderr, "%s: not found\n", argc > 0 ? argv[0] : "busybox");
    return fflush(stdout) == 0 ? status : 1;
}
