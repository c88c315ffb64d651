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

template <class A>
struct PlainMath {  // fp32 or bf16, summed in fp32
    using Acc = VF;
    static VF load(const VF* p) { return load_f32(reinterpret_cast<const float*>(p)); }
    static void store(VF* p, VF v) { store_f32(reinterpret_cast<float*>(p), v); }
    static VF step(VF acc, VI w, int32_t x);
};
template <>
inline VF PlainMath<Fp32>::step(VF acc, VI w, int32_t x) {
    float value;
    std::memcpy(&value, &x, 4);
    return fma(as_float(w), set1(value), acc);
}
template <>
inline VF PlainMath<Bf16>::step(VF acc, VI w, int32_t x) { return dot2(acc, w, x); }

struct Int8Math {  // exact in int32
    using Acc = VI;
    static VI load(const VI* p) { return load_i32(p); }
    static void store(VI* p, VI v) { store_i32(p, v); }
    static VI step(VI acc, VI w, int32_t x) { return dot4<128>(acc, w, x); }
};

struct Panels {  // P neighbouring panels, from a word of K on
    const char* data;
    int64_t panel_bytes;
    int lanes;  // of each: 16, or fewer in the last
};

// acc[m][p] += w[p] . x[m] over `words` words of K. acc rows lie `acc_stride` vectors apart.
template <class Math, int M, int P>
void accumulate(Panels w, const int32_t* x, int64_t row_words, int64_t words, typename Math::Acc* acc, int64_t acc_stride) {
    typename Math::Acc sums[M][P];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) sums[m][p] = Math::load(acc + m * acc_stride + p);
    const auto run = [&](auto load) {
        for (int64_t word = 0; word < words; ++word) {
            VI weights[P];
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) weights[p] = load(w.data + p * w.panel_bytes, word);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) {
                const int32_t value = x[m * row_words + word];
#pragma GCC unroll 8
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
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) Math::store(acc + m * acc_stride + p, sums[m][p]);
}

template <class Math, int M, int P>
void accumulate_rows(int64_t rows, Panels w, const int32_t* x, int64_t row_words, int64_t words, typename Math::Acc* acc) {
    if constexpr (M == TILE_ROWS)
        for (; rows >= M; rows -= M, x += M * row_words, acc += M * P) accumulate<Math, M, P>(w, x, row_words, words, acc, P);
    if (rows == M) accumulate<Math, M, P>(w, x, row_words, words, acc, P);
    else if constexpr (M > 1) {
        if (rows) accumulate_rows<Math, M - 1, P>(rows, w, x, row_words, words, acc);
    }
}

// All rows over P panels: `first(row)` is where a sum starts, `last(row, panel, sum)` what becomes of it.
template <class Math, int P, class First, class Last>
void multiply(int64_t rows, Panels w, const int32_t* x, int64_t words, Worker& worker, First first, Last last) {
    using Acc = typename Math::Acc;
    auto* acc = worker.scratch.take<Acc>(std::min(rows, ROWS_AT_ONCE) * P);
    for (int64_t row = 0; row < rows; row += ROWS_AT_ONCE) {
        const int64_t count = std::min(ROWS_AT_ONCE, rows - row);
        for (int64_t m = 0; m < count; ++m)
            for (int p = 0; p < P; ++p) Math::store(acc + m * P + p, first(row + m));
        const int64_t step = count > TILE_ROWS ? BLOCK_WORDS : words;
        for (int64_t word = 0; word < words; word += step) {
            const Panels part{w.data + word * 4 * w.lanes, w.panel_bytes, w.lanes};
            accumulate_rows<Math, TILE_ROWS, P>(count, part, x + row * words + word, words, std::min(step, words - word), acc);
        }
        for (int64_t m = 0; m < count; ++m)
            for (int p = 0; p < P; ++p) last(row + m, p, Math::load(acc + m * P + p));
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

}  // namespace

// fp32 or bf16 weights; p: out, x, panels, -, -, -, bias or null. n: K, N.
template <class A>
void linear_plain(const Call& call, Worker& worker) {
    const int64_t K = call.n[0], N = call.n[1], rows = *call.rows, words = K * sizeof(typename A::Value) / 4;
    for_panels<TILE_PANELS>(N, worker, [&](auto count, int64_t panel) {
        const Panels w{call.at<const char>(2) + panel * LANES * words * 4, LANES * words * 4, lanes_of(panel, N)};
        multiply<PlainMath<A>, decltype(count)::value>(
            rows, w, call.at<const int32_t>(1), words, worker, [](int64_t) { return set1(0.0f); },
            [&](int64_t row, int p, VF sum) { put<A>(call, N, row, panel + p, sum); });
    });
}

// int8 codes with a scale per output; p: out, codes of x, panels, weight scales [N], row scales, row sums, bias or null. n: K, N.
template <class A>
void linear_w8a8(const Call& call, Worker& worker) {
    const int64_t K = call.n[0], N = call.n[1], rows = *call.rows, words = K / 4;
    const auto* sums = call.at<const int32_t>(5);
    for_panels<TILE_PANELS>(N, worker, [&](auto count, int64_t panel) {
        const Panels w{call.at<const char>(2) + panel * LANES * K, LANES * K, lanes_of(panel, N)};
        multiply<Int8Math, decltype(count)::value>(
            rows, w, call.at<const int32_t>(1), words, worker,
            [&](int64_t row) { return set1_i32(DOT4_IS_SIGNED ? 0 : -128 * sums[row]); },
            [&](int64_t row, int p, VI sum) {
                VF scale = load_f32(call.at<const float>(3) + (panel + p) * LANES, lanes_of(panel + p, N));
                put<A>(call, N, row, panel + p, mul(mul(to_float(sum), scale), set1(call.at<const float>(4)[row])));
            });
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

namespace {

// Word `word` of row `n`, as it lies in a panel; from a row of int4 codes its eight codes in the order of the panels.
inline uint32_t panel_word(const uint32_t* row, int64_t word, int64_t kind) {
    uint32_t x = row[word];
    if (kind == 1) return x ^ 0x80808080u;  // int8 plus 128
    if (kind != 2) return x;
    uint32_t packed = 0;  // code k of the row lies in nibble k; in a panel in nibble 2k, and in 2(k - 4) + 1 from 4 on
    for (int k = 0; k < 8; ++k) packed |= ((x >> (4 * k)) & 15u) << (k < 4 ? 8 * k : 8 * (k - 4) + 4);
    return packed;
}
inline uint32_t row_word(uint32_t x, int64_t kind) {
    if (kind == 1) return x ^ 0x80808080u;
    if (kind != 2) return x;
    uint32_t codes = 0;
    for (int k = 0; k < 8; ++k) codes |= ((x >> (k < 4 ? 8 * k : 8 * (k - 4) + 4)) & 15u) << (4 * k);
    return codes;
}

}  // namespace

// Rows of W into panels, in place; p: W. n: words of a row, N, kind (0 plain, 1 int8, 2 int4).
void pack(const Call& call, Worker& worker) {
    const int64_t words = call.n[0], N = call.n[1], kind = call.n[2];
    worker.for_tasks((N + LANES - 1) / LANES, [&](int64_t panel) {
        const int lanes = lanes_of(panel, N);
        auto *data = call.at<uint32_t>(0) + panel * LANES * words, *rows = worker.scratch.take<uint32_t>(lanes * words);
        std::memcpy(rows, data, lanes * words * 4);
        for (int64_t word = 0; word < words; ++word)
            for (int lane = 0; lane < lanes; ++lane) data[word * lanes + lane] = panel_word(rows + lane * words, word, kind);
    });
}

// Panels back into rows; p: W of rows, panels. n as above.
void unpack(const Call& call, Worker& worker) {
    const int64_t words = call.n[0], N = call.n[1], kind = call.n[2];
    worker.for_tasks((N + LANES - 1) / LANES, [&](int64_t panel) {
        const int lanes = lanes_of(panel, N);
        const auto* data = call.at<const uint32_t>(1) + panel * LANES * words;
        auto* rows = call.at<uint32_t>(0) + panel * LANES * words;
        for (int64_t word = 0; word < words; ++word)
            for (int lane = 0; lane < lanes; ++lane) rows[lane * words + word] = row_word(data[word * lanes + lane], kind);
    });
}

// Scales bf16 [N, G] into [panel][G][lanes], in place; p: scales. n: groups, N.
void pack_scales(const Call& call, Worker& worker) {
    const int64_t groups = call.n[0], N = call.n[1];
    worker.for_tasks((N + LANES - 1) / LANES, [&](int64_t panel) {
        const int lanes = lanes_of(panel, N);
        auto *data = call.at<uint16_t>(0) + panel * LANES * groups, *rows = worker.scratch.take<uint16_t>(lanes * groups);
        std::memcpy(rows, data, lanes * groups * 2);
        for (int64_t group = 0; group < groups; ++group)
            for (int lane = 0; lane < lanes; ++lane) data[group * lanes + lane] = rows[lane * groups + group];
    });
}

#define FOR_ACTIVATIONS(A)                                  \
    template void linear_plain<A>(const Call&, Worker&);    \
    template void linear_w8a8<A>(const Call&, Worker&);     \
    template void linear_w4a8<A>(const Call&, Worker&);
FOR_ACTIVATIONS(Fp32)
FOR_ACTIVATIONS(Bf16)

}  // namespace farthing
