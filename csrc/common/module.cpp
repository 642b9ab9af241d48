// The Python side of the library: build facts and the choice of instruction set. Importing it registers every kernel.
// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "isa.h"

#ifndef DCACCEL_FLAGS
#define DCACCEL_FLAGS "unknown"
#endif
#ifndef DCACCEL_COMMIT
#define DCACCEL_COMMIT "unknown"
#endif

namespace dcaccel {
namespace {

int find_best_level() {
#ifdef DCACCEL_HAS_X86_LEVELS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return avx2 ? (avx512 ? 2 : 1) : 0;
#else
  return 0;
#endif
}

int& level() {
  static int value = find_best_level();
  return value;
}

}  // namespace

int best_level() {
  static const int value = find_best_level();
  return value;
}
int active_level() { return level(); }
void set_active_level(int value) { level() = value; }

}  // namespace dcaccel

PYBIND11_MODULE(_native_cpu, m) {
  namespace py = pybind11;
  using namespace dcaccel;
  m.doc() = "Compiled CPU kernels of deepclust_accel; importing it registers them with torch.";
  m.def("build_info", [] {
    py::dict facts;
    facts["compiler"] = __VERSION__;
    facts["flags"] = DCACCEL_FLAGS;
    facts["commit"] = DCACCEL_COMMIT;
#ifdef DCACCEL_HAS_X86_LEVELS
    facts["compiled"] = std::vector<std::string>(kLevelNames, kLevelNames + kLevels);
#else
    facts["compiled"] = std::vector<std::string>(kLevelNames, kLevelNames + 1);
#endif
    return facts;
  }, "Compiler, flags, git commit and the instruction sets that were compiled in.");
  m.def("instruction_sets", [] { return std::vector<std::string>(kLevelNames, kLevelNames + best_level() + 1); },
        "Instruction sets that were compiled in and that this CPU runs, lowest first.");
  m.def("instruction_set", [] { return std::string(kLevelNames[active_level()]); }, "The instruction set in use.");
  m.def("set_instruction_set", [](const std::string& name) {
    const auto* end = kLevelNames + best_level() + 1;
    const auto* found = std::find(kLevelNames, end, name);
    if (found == end) {
      std::string have;
      for (const auto* each = kLevelNames; each != end; ++each) have += (have.empty() ? "" : ", ") + std::string(*each);
      throw py::value_error("instruction set: expected one of " + have + ", got '" + name + "'");
    }
    set_active_level(int(found - kLevelNames));
  }, py::arg("name"), "Use a lower instruction set; for tests and measurements.");
}
