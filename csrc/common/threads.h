// Parallel loops over torch's threads, and the tournament that makes symmetric pair sums race-free and reproducible.
// Plain pointers only, so that kernels of any instruction set may call them.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace dcaccel {

// body(context, i) for i in [0, count), on torch's threads; threads take the next index when they are free.
void parallel(int64_t count, void (*body)(void*, int64_t), void* context);

// play(context, a, b) once for every pair a <= b < blocks. Calls that share a block never overlap, and every block
// sees its partners in an order that depends on `blocks` alone: a call may therefore add to sums owned by a and by b
// without atomics, and the result has the same bits at any number of threads.
void tournament(int64_t blocks, void (*play)(void*, int64_t, int64_t), void* context);

}  // namespace dcaccel
