/* SPDX-License-Identifier: Apache-2.0 */
/* Quicksort of 65,536 pseudo-random integers, n times. */
#include "kernels.h"

#define COUNT 65536

static uint32_t v[COUNT];

static void sort(uint32_t *p, int lo, int hi)
{
    while (lo < hi) {
        uint32_t pivot = p[lo + (hi - lo) / 2];
        int i = lo, j = hi;
        while (i <= j) {
            while (p[i] < pivot)
                i++;
            while (p[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t t = p[i];
                p[i++] = p[j];
                p[j--] = t;
            }
        }
        if (j - lo < hi - i) {
            sort(p, lo, j);
            lo = i;
        } else {
            sort(p, i, hi);
            hi = j;
        }
    }
}

uint64_t kernel_sort(uint32_t n)
{
    uint64_t sum = 0;
    uint32_t x = 12345;
    for (uint32_t round = 0; round < n; round++) {
        for (int i = 0; i < COUNT; i++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            v[i] = x;
        }
        sort(v, 0, COUNT - 1);
        for (int i = 0; i < COUNT; i += 997)
            sum = sum * 31 + v[i];
    }
    return sum;
}
