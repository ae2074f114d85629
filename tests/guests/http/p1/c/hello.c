/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest CGI function that a person would write: what the benchmarks measure. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    const char *method = getenv("REQUEST_METHOD");
    printf("Content-Type: text/plain\n\nHello from a function, %s\n", method != NULL ? method : "nobody");
    return 0;
}
