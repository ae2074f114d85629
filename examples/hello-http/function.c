/* SPDX-License-Identifier: Apache-2.0 */
/* A web function without any library: a plain WASI program that reads its request as a CGI program does. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    const char *query = getenv("QUERY_STRING");
    long n = 0;

    while (getchar() != EOF)
        n++;
    printf("Content-Type: text/plain\n\n");
    printf("%s %s, query '%s', %ld bytes of body\n", getenv("REQUEST_METHOD"), getenv("PATH_INFO"),
           query != NULL ? query : "", n);
    return 0;
}
