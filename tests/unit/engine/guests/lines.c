/* SPDX-License-Identifier: Apache-2.0 */
/* Traps in inner, called from line 17: what a backtrace is to say. */
static int table[4];

int go(void);

__attribute__((noinline)) static int inner(int i)
{
    table[0]++;
    if (i > 3)
        __builtin_trap();
    return table[i] + 1;
}

__attribute__((export_name("go"))) int go(void)
{
    return inner(table[1] + 9) + 1;
}
