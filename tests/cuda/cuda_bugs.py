"""Bugs that are planted in a copy of the sources, to show that the tests would see them.

Each is a textual change. `sees` is the way of running that must object, and `how` what it must say: a pattern in the
message of a driver that ended early, or "wrong" for results that are off.
"""

import shutil
from dataclasses import dataclass

from cuda_running import CSRC, KEPT


@dataclass(frozen=True)
class Bug:
    name: str
    kernel: str
    file: str  # below csrc
    old: str
    new: str
    sees: str
    how: str

    def planted(self):
        """The cuda.cu of the kernel in a copy of csrc that has the bug."""
        copy = KEPT / "bugs" / self.name
        for folder in ("common", self.kernel):
            shutil.copytree(CSRC / folder, copy / folder, dirs_exist_ok=True)
        text = (CSRC / self.file).read_text()
        assert text.count(self.old) == 1, (
            f"{self.name}: {self.old!r} must be once in {self.file}; change the bug with it"
        )
        (copy / self.file).write_text(text.replace(self.old, self.new))
        return copy / self.kernel / "cuda.cu"


SWEEP_BARRIER = "      __syncthreads();  // this part has arrived"
TILES, REDUCE = "common/cuda_pair_tiles.h", "common/cuda_reduce.h"
ROWS, PASSES = "wasserstein_similarity/cuda_rows.h", "wasserstein_similarity/cuda.cu"
W = "wasserstein_similarity"
CENTERS, ASSIGN, POSTERIOR = "common/cuda_centers.h", "soft_assign/cuda.cu", "mixture_posterior/cuda.cu"
T, PULL, SHIFTS = "t_similarity", "t_similarity/cuda_passes.h", "t_similarity/cuda_rows.h"
R, TAILS = "residual_block", "residual_block/cuda.cu"
NEAREST, SUMS = "nearest_center/cuda.cu", "center_sums/cuda.cu"

BUGS = [
    Bug("no-barrier", W, TILES, SWEEP_BARRIER, "      //", "fibers", "wrong"),
    Bug("no-barrier-race", W, TILES, SWEEP_BARRIER, "      //", "tsan", r"data race"),
    Bug("no-barrier-ptx", W, TILES, SWEEP_BARRIER, "      //", "ptx", "wrong"),
    Bug("no-barrier-before-read", W, REDUCE, "warps[warp] = value;\n  __syncthreads();", "warps[warp] = value;",
        "fibers", "wrong"),
    Bug("waits-too-little", W, TILES, "__pipeline_wait_prior(0)", "__pipeline_wait_prior(1)", "fibers", "wrong"),
    Bug("reads-behind-the-input", W, ROWS, "const bool there = i < rows.n", "const bool there = i < rows.n + 1",
        "asan", r"heap-buffer-overflow[\s\S]*pack_kernel"),
    Bug("writes-behind-the-gradient", W, ROWS, "if (i >= rows.n) return;\n  const int64_t tile",
        "if (i > rows.n) return;\n  const int64_t tile", "asan", r"heap-buffer-overflow[\s\S]*row_gradient_kernel"),
    Bug("misaligned-vector", W, TILES, "load16(feature + first_row<T>(), to)", "load16(feature + first_row<T>() + 1, to)",
        "asan", r"misaligned address"),
    Bug("columns-that-do-not-exist", W, TILES, "return column_of<T>(c) < columns && ", "return ", "fibers", "wrong"),
    Bug("the-diagonal", W, TILES, " && column_of<T>(c) != first_row<T>() + r + itself;", ";", "fibers", "wrong"),
    Bug("the-diagonal-of-all-rows", W, TILES, "offset = start + (i - j) * kTile<T>", "offset = (i - j) * kTile<T>",
        "fibers", "wrong"),
    Bug("half-of-a-diagonal", W, TILES, "offset > -kTile<T> && offset", "offset >= 0 && offset", "fibers", "wrong"),
    Bug("shares-of-other-rows", W, PASSES, "load_rows(own.share(this->tile), share)",
        "load_rows(rows.share(this->tile), share)", "fibers", "wrong"),
    Bug("uninitialised-shared-memory", W, TILES, "left = count * int(kTile<T>)", "left = (count - 1) * int(kTile<T>)",
        "fibers", "wrong"),
    Bug("uninitialised-scratch", W, TILES, "total = first ? double(sums[0]) : total + double(sums[0])",
        "total = total + double(sums[0])", "fibers", "wrong"),
    Bug("threads-exit-early", W, ROWS, "  const int64_t f = blockIdx.x;\n", "  const int64_t f = blockIdx.x;\n"
        "  if (int64_t(threadIdx.x) >= rows.n) return;\n", "fibers", r"which has exited|threads of the block have exited"),
    Bug("lanes-miss-a-shuffle", W, TILES, "        const bool upper = own & step;", "        const bool upper = own & step;\n"
        "        if (own == 5) continue;", "fibers", r"\*_sync intrinsic|which has exited|different"),
    Bug("wrong-lane", W, TILES, "int step = kColumnThreads / 2; step", "int step = kColumnThreads / 4; step", "fibers",
        "wrong"),
    Bug("sums-of-another-block", W, PASSES, "out.at(blockIdx.y, tile, chunk.from)", "out.at(0, tile, chunk.from)",
        "fibers", "wrong"),
    Bug("sum-of-half-a-warp", "soft_assign", CENTERS, "x += __shfl_xor_sync(kAllLanes, x, step)",
        "x += __shfl_xor_sync(kAllLanes, x, step / 2)", "fibers", "wrong"),
    Bug("least-of-a-lane", "mixture_posterior", CENTERS, "x = other < x ? other : x;", "(void)other;", "fibers", "wrong"),
    Bug("no-center-for-a-lane", "soft_assign", ASSIGN, "  q += row * s.k;\n",
        "  q += row * s.k;\n  if (own_lane() >= s.k) return;\n", "fibers", r"which has exited"),
    Bug("a-row-too-many", "soft_assign", ASSIGN, "if (row >= s.n) return;\n  q +=", "if (row > s.n) return;\n  q +=",
        "asan", r"heap-buffer-overflow[\s\S]*assign_kernel"),
    Bug("a-number-too-many", "soft_assign", ASSIGN, "if (i >= s.n * s.d) return;", "if (i > s.n * s.d) return;", "asan",
        r"heap-buffer-overflow[\s\S]*row_gradient_kernel"),
    Bug("a-feature-too-many", "mixture_posterior", POSTERIOR, "segment >= segments.count || f >= s.d",
        "segment >= segments.count || f > s.d", "asan", r"heap-buffer-overflow[\s\S]*moments_kernel"),
    Bug("a-segment-too-few", "mixture_posterior", CENTERS, "int64_t s = 0; s < segments; ++s",
        "int64_t s = 0; s + 1 < segments; ++s", "fibers", "wrong"),
    Bug("segments-of-one-center", "soft_assign", ASSIGN, "partial[(segment * s.k + k) * s.d + f] = sum",
        "partial[segment * s.k * s.d + f] = sum", "fibers", "wrong"),
    Bug("a-race-for-one-center", "soft_assign", ASSIGN, "partial[(segment * s.k + k) * s.d + f] = sum",
        "partial[segment * s.k * s.d + f] = sum", "tsan", r"data race"),
    Bug("nearest-without-its-number", "nearest_center", NEAREST, "best = d, number = k;\n  }\n  if", "best = d;\n  }\n  if",
        "fibers", "wrong"),
    Bug("nearest-of-sixteen", "nearest_center", NEAREST, "int step = kWarp / 2; step", "int step = kWarp / 4; step",
        "ptx", "wrong"),
    Bug("an-index-too-many", "center_sums", SUMS, "own < end && index", "own <= end && index", "asan",
        r"heap-buffer-overflow[\s\S]*segments_kernel"),
    Bug("lanes-miss-a-ballot", "center_sums", SUMS, "  double sum = 0, count = 0;\n",
        "  if (f >= s.d) return;\n  double sum = 0, count = 0;\n", "fibers", r"which has exited"),
    Bug("no-nearest-of-a-row", T, PULL, "if (int(threadIdx.x) % kColumnThreads == 0) out", "if (threadIdx.x == 8) out",
        "fibers", "wrong"),
    Bug("columns-behind-the-last", T, TILES, "return column_of<T>(c) < columns && ", "return ", "fibers", "wrong"),
    Bug("a-row-with-itself", T, TILES, " && column_of<T>(c) != first_row<T>() + r + itself;", ";", "fibers", "wrong"),
    Bug("tiles-of-all-rows", T, PULL, "int64_t(blockIdx.y) * this->own.tiles()",
        "int64_t(blockIdx.y) * this->rows.tiles()", "fibers", "wrong"),
    Bug("sums-of-the-other-side", T, PULL, "of_e() ? sides.first_of_e() : 0", "0", "fibers", "wrong"),
    Bug("a-chunk-of-the-other-side", T, PULL, "(of_e() ? this->rows.d : 0)", "0", "fibers", "wrong"),
    Bug("numbers-of-no-row", T, PULL, "fetch(this->rows.of_row(j, 0), kOfRow, to);",
        "fetch(this->rows.of_row(j, 0), kOfRow - 2, to);", "fibers", "wrong"),
    Bug("packs-behind-the-input", T, SHIFTS, "const bool there = i < rows.n", "const bool there = i <= rows.n", "asan",
        r"heap-buffer-overflow[\s\S]*pack_kernel"),
    Bug("a-gradient-too-many", T, SHIFTS, "if (i >= rows.n) return;\n  const int64_t tile = i / kTile<T>, lane = i % kTile<T>;\n  const double u",
        "if (i > rows.n) return;\n  const int64_t tile = i / kTile<T>, lane = i % kTile<T>;\n  const double u", "asan",
        r"heap-buffer-overflow[\s\S]*row_gradient_kernel"),
    Bug("no-barrier-between-parts", T, TILES, SWEEP_BARRIER, "      //", "tsan", r"data race"),
    Bug("no-barrier-before-the-rows", R, TAILS, "sums[depth][lane] = sum;\n  __syncthreads();", "sums[depth][lane] = sum;",
        "fibers", "wrong"),
    Bug("no-barrier-between-halves", R, TAILS, "    __syncthreads();\n    if (thread < half)", "    if (thread < half)",
        "fibers", "wrong"),
    Bug("a-pixel-too-many", R, TAILS, "i < count; i += stride", "i <= count; i += stride", "asan",
        r"heap-buffer-overflow[\s\S]*tail_kernel"),
    Bug("a-channel-too-many", R, TAILS, "if (c < layout.columns)\n    for", "if (c <= layout.columns)\n    for", "asan",
        r"heap-buffer-overflow[\s\S]*gate_rows_kernel"),
    Bug("a-part-too-long", R, TAILS, "begin + step < layout.rows ? step : layout.rows - begin", "step", "asan",
        r"heap-buffer-overflow[\s\S]*gate_planes_kernel"),
    Bug("a-part-too-few", R, TAILS, "int64_t part = 0; part < parts", "int64_t part = 1; part < parts", "ptx", "wrong"),
]  # fmt: skip
