// What the C++ made by ptx2cpp.py calls: values in registers, checked addresses, and the instructions that are more
// than an operator.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#define DC_EMU_NO_API
#include <algorithm>
#include <limits>

#include "dc_emu.h"

struct PtxEntry {
  const char* name;
  void (*run)(const unsigned char*);
  unsigned params_size, params_count;
  struct {
    unsigned offset, size;
  } params[32];
};
extern const PtxEntry ptx_entries[];
extern const int ptx_entry_count;
inline char ptx_shared;  // the tag of a kernel's shared memory

// The bits of a register as a number, and back.
inline float f32(uint32_t bits) { return dcemu::unbits<float>(bits); }
inline double f64(uint64_t bits) { return dcemu::unbits<double>(bits); }
inline uint32_t bits_of_f32(float x) { return uint32_t(dcemu::bits(x)); }
inline uint64_t bits_of_f64(double x) { return dcemu::bits(x); }

inline unsigned char* shared_at(unsigned char* shared, uint32_t offset, int bytes, uint32_t size, const char* text) {
  if (uint64_t(offset) + bytes > size || (bytes && offset % bytes))
    dcemu::die("shared access out of range or misaligned, offset %u: %s", offset, text);
  return shared + offset;
}
inline unsigned char* global_at(uint64_t address, int bytes, const char* text) {
  if (bytes && address % bytes) dcemu::die("misaligned global access: %s", text);
  return reinterpret_cast<unsigned char*>(uintptr_t(address));
}

template <class T>
T to_integer(double x) {
  using limits = std::numeric_limits<T>;
  if (x != x) return 0;
  return x <= double(limits::min()) ? limits::min() : (x >= double(limits::max()) ? limits::max() : T(x));
}

// shfl.sync; `c` is the clamp, and above it the segment mask.
inline uint32_t shuffled(char mode, uint32_t value, uint32_t by, uint32_t c, uint32_t mask, bool& found) {
  const unsigned width = 32 - (c >> 8 & 31), lane = dcemu::T->lane, first = lane & ~(width - 1);
  by &= 31;
  found = mode == 'u' ? lane - first >= by
                      : (mode == 'd' ? lane + by < first + width : mode != 'b' || (lane ^ by) < first + width);
  const auto op = mode == 'i'   ? dcemu::kShflIdx
                  : mode == 'u' ? dcemu::kShflUp
                  : mode == 'd' ? dcemu::kShflDown
                                : dcemu::kShflXor;
  return uint32_t(dcemu::collective(op, mask, value, by, width));
}

inline bool uniform(unsigned mask, bool p) {
  const bool any = __any_sync(mask, p), all = __all_sync(mask, p);
  return any == all;
}

inline uint32_t looked_up(uint32_t a, uint32_t b, uint32_t c, unsigned table) {
  uint32_t out = 0;
  for (int i = 0; i < 8; ++i)
    if (table >> i & 1) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  return out;
}
inline uint32_t funnel(uint32_t low, uint32_t high, uint32_t by, bool left, bool clamp) {
  by = clamp ? std::min(by, 32u) : by & 31;
  const uint64_t x = uint64_t(high) << 32 | low;
  return left ? uint32_t((x << by) >> 32) : uint32_t(x >> by);
}
template <class T>
T reversed_bits(T x) {
  T out = 0;
  for (unsigned i = 0; i < 8 * sizeof(T); ++i) out |= T(x >> i & 1) << (8 * sizeof(T) - 1 - i);
  return out;
}
inline uint32_t permuted(uint32_t a, uint32_t b, uint32_t choice) {
  const uint64_t x = uint64_t(b) << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned which = choice >> (4 * i) & 15;
    uint8_t byte = uint8_t(x >> (8 * (which & 7)));
    if (which & 8) byte = byte & 0x80 ? 0xff : 0;
    out |= uint32_t(byte) << (8 * i);
  }
  return out;
}
template <class T>
T bit_field(T x, uint32_t from, uint32_t count) {
  constexpr unsigned bits = 8 * sizeof(T);
  from &= 255, count &= 255;
  if (count == 0) return 0;
  const unsigned top = std::min(from + count, bits);
  if (from >= bits) return std::is_signed_v<T> && x < 0 ? T(-1) : T(0);
  return T(T(x << (bits - top)) >> (bits - top + from));
}
// The low `count` bits of a in place of those of b from `at` on.
template <class T>
T inserted(T a, T b, uint32_t at, uint32_t count) {
  constexpr unsigned bits = 8 * sizeof(T);
  at &= 255, count &= 255;
  if (count == 0 || at >= bits) return b;
  const T mask = T((count >= bits ? ~T(0) : (T(1) << count) - 1) << at);
  return (b & ~mask) | (T(a << at) & mask);
}
