/* SPDX-License-Identifier: Apache-2.0 */
/* A stack machine that counts the primes below n by trial division: what an interpreted language does to the
 * machine. */
#include "kernels.h"

enum { PUSH, LOAD, STORE, ADD, MUL, MOD, LESS, JUMP, JUMP_IF_ZERO, HALT };
enum { C, D, COUNT, N, VARIABLES };

/* for (c = 2; c < n; c++) { for (d = 2; d * d <= c; d++) if (c % d == 0) goto next; count++; next:; } */
static const struct {
    int32_t op, arg;
} program[] = {
    {PUSH, 2},          {STORE, C}, {LOAD, C},  {LOAD, N},          {LESS, 0}, /* 0: c = 2; 2: while c < n */
    {JUMP_IF_ZERO, 33}, {PUSH, 2},  {STORE, D},                                /* 6: d = 2 */
    {LOAD, C},          {LOAD, D},  {LOAD, D},  {MUL, 0},           {LESS, 0}, /* 8: c < d * d? */
    {JUMP_IF_ZERO, 15}, {JUMP, 24},                                            /* then it is a prime */
    {LOAD, C},          {LOAD, D},  {MOD, 0},   {JUMP_IF_ZERO, 28},            /* 15: no prime */
    {LOAD, D},          {PUSH, 1},  {ADD, 0},   {STORE, D},         {JUMP, 8}, /* 19: d++ */
    {LOAD, COUNT},      {PUSH, 1},  {ADD, 0},   {STORE, COUNT},                /* 24: count++ */
    {LOAD, C},          {PUSH, 1},  {ADD, 0},   {STORE, C},         {JUMP, 2}, {HALT, 0}, /* 28: c++ */
};

static int32_t run(int32_t n)
{
    int32_t stack[16], v[VARIABLES] = {0};
    int32_t *sp = stack;
    v[N] = n;
    for (int pc = 0;; pc++) {
        int32_t arg = program[pc].arg;
        switch (program[pc].op) {
        case PUSH:
            *sp++ = arg;
            break;
        case LOAD:
            *sp++ = v[arg];
            break;
        case STORE:
            v[arg] = *--sp;
            break;
        case ADD:
            sp--, sp[-1] += sp[0];
            break;
        case MUL:
            sp--, sp[-1] *= sp[0];
            break;
        case MOD:
            sp--, sp[-1] %= sp[0];
            break;
        case LESS:
            sp--, sp[-1] = sp[-1] < sp[0];
            break;
        case JUMP:
            pc = arg - 1;
            break;
        case JUMP_IF_ZERO:
            if (*--sp == 0)
                pc = arg - 1;
            break;
        default:
            return v[COUNT];
        }
    }
}

uint64_t kernel_interpreter(uint32_t n)
{
    return (uint64_t)run((int32_t)n);
}
