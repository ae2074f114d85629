/* SPDX-License-Identifier: Apache-2.0 */
/* What a compiler calls without being asked to, for a guest without libc. */
#include <stddef.h>

void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

void *memset(void *p, int c, size_t n)
{
    for (char *q = p; n > 0; n--)
        *q++ = (char)c;
    return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
    const char *q = from;
    for (char *p = to; n > 0; n--)
        *p++ = *q++;
    return to;
}
