// Instruction sets a kernel file is compiled for, and the one in use.
//
// setup.py compiles every cpu.cpp once per level with -DDCACCEL_LEVEL=0|1|2. The kernels of a level live in the
// namespace DCACCEL_ISA; level 0 also compiles the host part and the registration with torch. Files compiled for a
// level above 0 must not include torch or any standard header that has inline functions with code in them (see hd.h).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#ifndef DCACCEL_LEVEL
#define DCACCEL_LEVEL 0
#endif

#if DCACCEL_LEVEL == 0
#define DCACCEL_ISA baseline
#define DCACCEL_VECTOR_BYTES 16
#elif DCACCEL_LEVEL == 1
#define DCACCEL_ISA avx2
#define DCACCEL_VECTOR_BYTES 32
#else
#define DCACCEL_ISA avx512
#define DCACCEL_VECTOR_BYTES 64
#endif

namespace dcaccel {

constexpr int kLevels = 3;
inline constexpr const char* kLevelNames[kLevels] = {"baseline", "avx2", "avx512"};

int best_level();            // the highest level that was compiled in and that this CPU runs
int active_level();          // best_level() until set_active_level() chose another
void set_active_level(int);  // for tests and measurements; the caller checks the range

}  // namespace dcaccel
