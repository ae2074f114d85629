/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of computation, without any library: the same source becomes native code and a guest. Each takes a
 * size and answers a checksum, which both must agree on. */
#pragma once

#include <stdint.h>

uint64_t kernel_matmul(uint32_t n);
uint64_t kernel_sha256(uint32_t n);
uint64_t kernel_nbody(uint32_t n);
uint64_t kernel_sort(uint32_t n);
uint64_t kernel_json(uint32_t n);
uint64_t kernel_interpreter(uint32_t n);
