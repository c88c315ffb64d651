// Matrix products over packed weights: y[T,N] = x[T,K] W[N,K]^T.
//
// W is packed in panels of 16 outputs. A panel is [K / V][16] words of 32 bits, a word holding V = 1 fp32, 2 bf16 or 4
// int8 (plus 128) of one output: what one instruction multiplies with the same word of x for 16 outputs. int4 words hold
// 8 codes (plus 8), the first four in the low halves of the bytes. The last panel has N % 16 outputs where that is not 0.
// A sum runs over K in order in one accumulator, whatever the number of rows and threads: rows never depend on others.
#include <cmath>

#include "kernels.h"
#include "simd.h"

namespace farthing {

namespace {

constexpr int64_t BLOCK_WORDS = 64;  // of K: a block of four panels stays in the first cache while all rows pass it
constexpr int64_t ROWS_AT_ONCE = 128;
constexpr int64_t PREFETCH_BYTES = 1024;
constexpr int FEW_ROWS = 4;

// A math says how a word of weights meets a word of x: `Weights` is what a loaded word becomes before it meets the
// rows, X_WORDS how many words of x it meets. A tile of ROWS x PANELS sums fits the registers; FEW rows leave room for
// more panels, whose streams hide each other's latency.
struct Fp32Math {
    using Acc = VF;
    using Weights = VF;
    static constexpr int X_WORDS = 1, ROWS = TILE_ROWS, PANELS = TILE_PANELS;
    static Weights unpack(VI w) { return as_float(w); }
    static VF step(VF acc, Weights w, const float* x) { return fma(w, set1(*x), acc); }
};

struct Bf16Math {  // products of two, where the processor has them
    using Acc = VF;
    using Weights = VI;
    static constexpr int X_WORDS = 1, ROWS = TILE_ROWS, PANELS = TILE_PANELS;
    static Weights unpack(VI w) { return w; }
    static VF step(VF acc, Weights w, const float* x) {
        int32_t pair;
        std::memcpy(&pair, x, 4);
        return dot2(acc, w, pair);
    }
};

struct WidenedMath {  // bf16 weights, x widened to fp32 before
    using Acc = VF;
    struct Weights {
        VF even, odd;
    };
    static constexpr int X_WORDS = 2, ROWS = WIDENED_ROWS, PANELS = WIDENED_PANELS;
    static Weights unpack(VI w) { return {even_bf16(w), odd_bf16(w)}; }
    static VF step(VF acc, const Weights& w, const float* x) { return fma(w.odd, set1(x[1]), fma(w.even, set1(x[0]), acc)); }
};

struct Int8Math {  // exact in int32
    using Acc = VI;
    using Weights = VI;
    static constexpr int X_WORDS = 1, ROWS = TILE_ROWS, PANELS = TILE_PANELS;
    static Weights unpack(VI w) { return w; }
    static VI step(VI acc, Weights w, const float* x) {
        int32_t codes;
        std::memcpy(&codes, x, 4);
        return dot4<128>(acc, w, codes);
    }
};

inline VF load_acc(const VF* p) { return load_f32(reinterpret_cast<const float*>(p)); }
inline VI load_acc(const VI* p) { return load_i32(p); }
inline void store_acc(VF* p, VF v) { store_f32(reinterpret_cast<float*>(p), v); }
inline void store_acc(VI* p, VI v) { store_i32(p, v); }

struct Panels {  // neighbouring panels, from a word of K on
    const char* data;
    int64_t panel_bytes;
    int lanes;  // of each: 16, or fewer in the last
};

// acc[m][p] += w[p] . x[m] over `words` words of K.
template <class Math, int M, int P>
void accumulate(Panels w, const float* x, int64_t x_stride, int64_t words, typename Math::Acc* acc) {
    typename Math::Acc sums[M][P];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) sums[m][p] = load_acc(acc + m * P + p);
    const auto run = [&](auto load) {
        for (int64_t word = 0; word < words; ++word) {
            typename Math::Weights weights[P];
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p) weights[p] = Math::unpack(load(w.data + p * w.panel_bytes, word));
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) {
                const float* value = x + m * x_stride + word * Math::X_WORDS;
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p) sums[m][p] = Math::step(sums[m][p], weights[p], value);
            }
        }
    };
    if (w.lanes == LANES)
        run([](const char* panel, int64_t word) {
            __builtin_prefetch(panel + word * 64 + PREFETCH_BYTES);
            return load_i32(panel + word * 64);
        });
    else
        run([lanes = w.lanes](const char* panel, int64_t word) { return load_i32(panel + word * 4 * lanes, lanes); });
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) store_acc(acc + m * P + p, sums[m][p]);
}

// Tiles of MOST rows, and one of what is left.
template <class Math, int MOST, int P, int M = MOST>
void accumulate_rows(int64_t rows, Panels w, const float* x, int64_t x_stride, int64_t words, typename Math::Acc* acc) {
    if constexpr (M == MOST)
        for (; rows >= M; rows -= M, x += M * x_stride, acc += M * P) accumulate<Math, M, P>(w, x, x_stride, words, acc);
    if (rows == 0) return;
    if (rows == M) return accumulate<Math, M, P>(w, x, x_stride, words, acc);
    if constexpr (M > 1) accumulate_rows<Math, MOST, P, M - 1>(rows, w, x, x_stride, words, acc);
}

// All rows over P panels: `first(row)` is where a sum starts, `last(row, panel, sum)` what becomes of it.
template <class Math, int MOST, int P, class First, class Last>
void multiply(int64_t rows, Panels w, const float* x, int64_t words, Worker& worker, First first, Last last) {
    using Acc = typename Math::Acc;
    const int64_t x_stride = words * Math::X_WORDS;
    auto* acc = worker.scratch.take<Acc>(std::min(rows, ROWS_AT_ONCE) * P);
    for (int64_t row = 0; row < rows; row += ROWS_AT_ONCE) {
        const int64_t count = std::min(ROWS_AT_ONCE, rows - row);
        for (int64_t m = 0; m < count; ++m)
            for (int p = 0; p < P; ++p) store_acc(acc + m * P + p, first(row + m));
        const int64_t step = count > MOST ? BLOCK_WORDS : words;
        for (int64_t word = 0; word < words; word += step) {
            const Panels part{w.data + word * 4 * w.lanes, w.panel_bytes, w.lanes};
            const float* values = x + row * x_stride + word * Math::X_WORDS;
            accumulate_rows<Math, MOST, P>(count, part, values, x_stride, std::min(step, words - word), acc);
        }
        for (int64_t m = 0; m < count; ++m)
            for (int p = 0; p < P; ++p) last(row + m, p, load_acc(acc + m * P + p));
    }
}

// Groups of panels as tasks: body(integral constant P, first panel).
template <int MOST, class Body>
void for_panels(int64_t N, Worker& worker, Body body) {
    const int64_t whole = N / LANES, panels = (N + LANES - 1) / LANES;
    const bool narrow = whole < 4 * MOST * worker.num_threads;
    const int64_t together = narrow ? (whole < 4 * worker.num_threads ? 1 : std::min(2, MOST)) : MOST;
    worker.for_tasks((panels + together - 1) / together, [&](int64_t task) {
        int64_t panel = task * together;
        const int64_t end = std::min(panels, panel + together);
        if (end - panel == MOST && end <= whole) return body(std::integral_constant<int, MOST>(), panel);
        if constexpr (MOST > 2)
            if (end - panel == 2 && end <= whole) return body(std::integral_constant<int, 2>(), panel);
        for (; panel < end; ++panel) body(std::integral_constant<int, 1>(), panel);
    });
}

inline int lanes_of(int64_t panel, int64_t N) { return static_cast<int>(std::min<int64_t>(LANES, N - panel * LANES)); }

template <class A>
void put(const Call& call, int64_t N, int64_t row, int64_t panel, VF y) {
    const int lanes = lanes_of(panel, N);
    const int64_t column = panel * LANES;
    if (const auto* bias = call.at<const typename A::Value>(6)) y = add(A::round(y), A::load(bias + column, lanes));
    A::store(call.at<typename A::Value>(0) + row * N + column, y, lanes);
}

// y = x W^T over panels of `words` words of K, by tiles that suit the number of rows.
template <class Math, class First, class Last>
void multiply_panels(const Call& call, int64_t words, Worker& worker, First first, Last last) {
    const int64_t N = call.n[1], rows = *call.rows, panel_bytes = LANES * words * 4;
    const auto over = [&](auto most, auto panels) {
        for_panels<decltype(panels)::value>(N, worker, [&](auto count, int64_t panel) {
            const Panels w{call.at<const char>(2) + panel * panel_bytes, panel_bytes, lanes_of(panel, N)};
            multiply<Math, decltype(most)::value, decltype(count)::value>(
                rows, w, call.at<const float>(1), words, worker, first,
                [&](int64_t row, int p, typename Math::Acc sum) { last(row, panel + p, sum); });
        });
    };
    if (rows <= FEW_ROWS) over(std::integral_constant<int, FEW_ROWS>(), std::integral_constant<int, TILE_PANELS>());
    else over(std::integral_constant<int, Math::ROWS>(), std::integral_constant<int, Math::PANELS>());
}

template <class A, class Math>
void linear_float(const Call& call, int64_t words, Worker& worker) {
    multiply_panels<Math>(
        call, words, worker, [](int64_t) { return set1(0.0f); },
        [&](int64_t row, int64_t panel, VF sum) { put<A>(call, call.n[1], row, panel, sum); });
}

}  // namespace

// p: out, x, panels, -, -, -, bias or null. n: K, N.
void linear_fp32(const Call& call, Worker& worker) { linear_float<Fp32, Fp32Math>(call, call.n[0], worker); }
void linear_bf16(const Call& call, Worker& worker) { linear_float<Bf16, Bf16Math>(call, call.n[0] / 2, worker); }

// bf16 weights and output, x in fp32.
void linear_widened(const Call& call, Worker& worker) { linear_float<Bf16, WidenedMath>(call, call.n[0] / 2, worker); }

// int8 codes with a scale per output; p: out, codes of x, panels, weight scales [N], row scales, row sums, bias or null.
// n: K, N.
template <class A>
void linear_w8a8(const Call& call, Worker& worker) {
    const int64_t N = call.n[1];
    const auto* sums = call.at<const int32_t>(5);
    multiply_panels<Int8Math>(
        call, call.n[0] / 4, worker, [&](int64_t row) { return set1_i32(DOT4_IS_SIGNED ? 0 : -128 * sums[row]); },
        [&](int64_t row, int64_t panel, VI sum) {
            VF scale = load_f32(call.at<const float>(3) + panel * LANES, lanes_of(panel, N));
            put<A>(call, N, row, panel, mul(mul(to_float(sum), scale), set1(call.at<const float>(4)[row])));
        });
}

namespace {

struct Grouped {  // int4 panels with a scale per group of K
    const char* codes;
    const char* scales;  // bf16 [groups][lanes]
    int64_t panel_bytes, scale_bytes;
    int lanes;
    int64_t words, group_words, groups;
};

inline VF load_scales(const char* p, int lanes) {
    const auto* values = reinterpret_cast<const uint16_t*>(p);
    return lanes == LANES ? load_bf16(values) : load_bf16(values, lanes);
}

// sums[m][p] = sum over the groups of scale * (codes . x), exact within a group, in fp32 over the groups in order.
template <int M, int P, bool WHOLE>
void multiply_groups(const Grouped& w, const int32_t* x, const int32_t* x_sums, VF (&sums)[M][P]) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) sums[m][p] = set1(0.0f);
    for (int64_t group = 0; group < w.groups; ++group) {
        VI acc[M][P];
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) acc[m][p] = set1_i32(DOT4_IS_SIGNED ? 0 : -8 * x_sums[m * w.groups + group]);
        const int64_t end = std::min(w.words, (group + 1) * w.group_words);
        for (int64_t word = group * w.group_words; word < end; ++word) {
            VI low[P], high[P];
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) {
                const char* at = w.codes + p * w.panel_bytes + word * 4 * (WHOLE ? LANES : w.lanes);
                if (WHOLE) __builtin_prefetch(at + PREFETCH_BYTES);
                VI both = WHOLE ? load_i32(at) : load_i32(at, w.lanes);
                low[p] = low_nibbles(both);
                high[p] = high_nibbles(both);
            }
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) {
                const int32_t* values = x + m * w.words * 2 + word * 2;
#pragma GCC unroll 8
                for (int p = 0; p < P; ++p) acc[m][p] = dot4<8>(dot4<8>(acc[m][p], low[p], values[0]), high[p], values[1]);
            }
        }
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            VF scale = load_scales(w.scales + p * w.scale_bytes + group * 2 * w.lanes, WHOLE ? LANES : w.lanes);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) sums[m][p] = fma(to_float(acc[m][p]), scale, sums[m][p]);
        }
    }
}

template <class A, int M, int P>
void grouped_rows(const Call& call, const Grouped& w, int64_t row, int64_t rows, int64_t panel) {
    const auto tile = [&] {
        VF sums[M][P];
        const int32_t* x = call.at<const int32_t>(1) + row * w.words * 2;
        const int32_t* x_sums = call.at<const int32_t>(5) + row * w.groups;
        if (w.lanes == LANES) multiply_groups<M, P, true>(w, x, x_sums, sums);
        else multiply_groups<M, P, false>(w, x, x_sums, sums);
        for (int m = 0; m < M; ++m)
            for (int p = 0; p < P; ++p)
                put<A>(call, call.n[1], row + m, panel + p, mul(sums[m][p], set1(call.at<const float>(4)[row + m])));
    };
    if constexpr (M == GROUPED_ROWS)
        for (; rows >= M; rows -= M, row += M) tile();
    if (rows == M) tile();
    else if constexpr (M > 1) {
        if (rows) grouped_rows<A, M - 1, P>(call, w, row, rows, panel);
    }
}

}  // namespace

// int4 codes with a bf16 scale per output and group; p: out, codes of x, panels, scales, row scales, row sums per group,
// bias or null. n: K, N, group size.
template <class A>
void linear_w4a8(const Call& call, Worker& worker) {
    const int64_t K = call.n[0], N = call.n[1], group = call.n[2], groups = (K + group - 1) / group;
    for_panels<GROUPED_PANELS>(N, worker, [&](auto count, int64_t panel) {
        const Grouped w{call.at<const char>(2) + panel * LANES * K / 2, call.at<const char>(3) + panel * LANES * groups * 2,
                        LANES * K / 2, LANES * groups * 2, lanes_of(panel, N), K / 8, group / 8, groups};
        grouped_rows<A, GROUPED_ROWS, decltype(count)::value>(call, w, 0, *call.rows, panel);
    });
}

#define FOR_ACTIVATIONS(A)                                  \
    template void linear_w8a8<A>(const Call&, Worker&);     \
    template void linear_w4a8<A>(const Call&, Worker&);
FOR_ACTIVATIONS(Fp32)
FOR_ACTIVATIONS(Bf16)

}  // namespace farthing
