/* SPDX-License-Identifier: Apache-2.0 */
/* Dense 192x192 matrices of doubles, multiplied n times; the inner loop runs along rows. */
#include "kernels.h"

#define SIDE 192

static double a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];

static void multiply(void)
{
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++)
            c[i][j] = 0;
        for (int k = 0; k < SIDE; k++) {
            double f = a[i][k];
            for (int j = 0; j < SIDE; j++)
                c[i][j] += f * b[k][j];
        }
    }
}

uint64_t kernel_matmul(uint32_t n)
{
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            a[i][j] = (double)((i * 7 + j) % 13) / 16;
            b[i][j] = (double)((i + j * 5) % 11) / 8;
        }
    }
    double sum = 0;
    for (uint32_t round = 0; round < n; round++) {
        multiply();
        for (int i = 0; i < SIDE; i++)
            sum += c[i][(i + (int)round) % SIDE];
        a[round % SIDE][0] += 1;
    }
    return (uint64_t)(int64_t)(sum * 128);
}
