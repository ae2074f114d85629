/* SPDX-License-Identifier: Apache-2.0 */
/* What the container peers run: linked statically. */
#include <stdio.h>

int main(void)
{
    puts("hello");
    return 0;
}
