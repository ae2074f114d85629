/* SPDX-License-Identifier: Apache-2.0 */
/* What the container peers run: linked statically. With an argument it sleeps until it is ended. */
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return pause();
    puts("hello");
    return 0;
}
