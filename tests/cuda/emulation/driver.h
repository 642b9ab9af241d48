// The frame of a driver: a program that reads cases, runs kernels on them and writes what they gave. A driver is linked
// with a cuda.cu that was compiled for the emulation, or with what nvcc made of it; it knows of neither.
//
//   driver CASES RESULTS [ORDER [SEED]]
//
// Numbers in both files are 8 bytes, arrays are raw; see tests/cuda/cuda_running.py, which writes and reads them.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#ifdef DC_EMU
#include "emu.h"
#endif

namespace driver {

inline std::FILE *cases, *results;

// Device memory: aligned as cudaMalloc does, full of NaN, and ending where it ends, so that AddressSanitizer sees it.
template <class T>
class Memory {
 public:
  explicit Memory(int64_t count) : count_(count) {
    // Whole alignments before the end of the block are what aligned_alloc asks for; the end itself is exact.
    if (posix_memalign(reinterpret_cast<void**>(&data_), 256, size_t(count) * sizeof(T) + !count)) std::abort();
    std::memset(static_cast<void*>(data_), 0xff, size_t(count) * sizeof(T));
  }
  Memory(const Memory&) = delete;
  ~Memory() { std::free(data_); }
  T* get() const { return data_; }

  Memory& read() {
    if (std::fread(data_, sizeof(T), size_t(count_), cases) != size_t(count_)) std::abort();
    return *this;
  }
  void write() const { std::fwrite(data_, sizeof(T), size_t(count_), results); }

  // Through a file that has numbers of another type.
  template <class In>
  void read_as() {
    Memory<In> in(count_);
    std::copy_n(in.read().get(), count_, data_);
  }
  template <class Out>
  void write_as() const {
    Memory<Out> out(count_);
    std::copy_n(data_, count_, out.get());
    out.write();
  }

 private:
  T* data_ = nullptr;
  int64_t count_;
};

// The next number of the case.
inline int64_t number() {
  int64_t value;
  if (std::fread(&value, 8, 1, cases) != 1) std::abort();
  return value;
}
inline double real() {
  double value;
  if (std::fread(&value, 8, 1, cases) != 1) std::abort();
  return value;
}
inline void check(int error) {
  if (error) std::fprintf(stderr, "driver: cudaError %d\n", error), std::exit(71);
}

// Runs one case for all cases in the file; `once` is called with the size of a number, 4 or 8.
inline int main(int argc, char** argv, void (*once)(int64_t bytes)) {
  if (argc < 3 || !(cases = std::fopen(argv[1], "rb")) || !(results = std::fopen(argv[2], "wb"))) return 64;
#ifdef DC_EMU
  if (argc > 3) dcemu::options.order = std::atoi(argv[3]);
  if (argc > 4) dcemu::options.seed = unsigned(std::atoi(argv[4]));
#endif
  for (int64_t left = number(); left > 0; --left) once(number());
  return std::fclose(results) ? 74 : 0;
}

}  // namespace driver
