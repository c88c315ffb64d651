// Rows of W in fp32 or bf16, rounded to 8 or 4 bits and laid into panels at once: bit for bit what kernels/weight.py
// rounds and pack.cpp lays out. Sixteen rows are the lanes of everything here.
#include "kernels.h"
#include "panels.h"
#include "rounding.h"

namespace farthing {

namespace {

constexpr float CODES_OF_TOP[] = {-8.0f, -7.0f, -7.5f, -8.5f, -9.0f};  // as in weight.py
constexpr int64_t WORD_CODES = 8;                                       // int4 codes of a word

// The rows of a panel as columns of 16 lanes, in fp32; lanes that are no row are 0.
template <class A>
const float* columns_of(const typename A::Value* rows, int lanes, int64_t K, float* columns) {
    if (lanes < LANES) std::fill(columns, columns + K * LANES, 0.0f);
    for_tiles(lanes, K, [&](int lane, int64_t k) { columns[k * LANES + lane] = A::get(rows + lane * K + k); });
    return columns;
}

// A word of each lane: part(i) is shifted by shift(i) bits, all parts lie beside each other.
template <int PARTS, class Part, class Shift>
void store_words(uint32_t* to, int lanes, Part part, Shift shift) {
    alignas(64) uint32_t words[LANES] = {}, codes[LANES];
    for (int i = 0; i < PARTS; ++i) {
        store_i32(codes, part(i));
        for (int lane = 0; lane < LANES; ++lane) words[lane] |= codes[lane] << shift(i);
    }
    std::memcpy(to, words, 4 * lanes);
}

// x where a < b, y elsewhere; of finite x and y.
inline VF choose(VF a, VF b, VF x, VF y) { return add(sub(x, zero_below(x, a, b)), zero_below(y, a, b)); }

// Sums over `count` values, halves on halves, as weight.py sums; the values and one more are overwritten.
inline VF sum_by_halves(float* values, int64_t count) {
    while (count > 1) {
        if (count % 2) store_f32(values + count++ * LANES, set1(0.0f));
        count /= 2;
        for (int64_t i = 0; i < count; ++i)
            store_f32(values + i * LANES, add(load_f32(values + i * LANES), load_f32(values + (count + i) * LANES)));
    }
    return load_f32(values);
}

}  // namespace

// p: panels, scales fp32 [rows], W. n: K.
template <class A>
void quantize_w8(const Call& call, Worker& worker) {
    const int64_t K = call.n[0], rows = *call.rows;
    worker.for_tasks(num_panels(rows), [&](int64_t index) {
        const Panel panel(index, rows);
        const auto* w = call.at<const typename A::Value>(2) + panel.first_row * K;
        const float* columns = columns_of<A>(w, panel.lanes, K, worker.scratch.take<float>(K * LANES));
        VF top = set1(0.0f), unsound = set1(0.0f);  // NaN and infinity times 0 are NaN, and so is then the scale
        for (int64_t k = 0; k < K; ++k) {
            top = max(top, abs(load_f32(columns + k * LANES)));
            unsound = fma(load_f32(columns + k * LANES), set1(0.0f), unsound);
        }
        const VF scale = div(top, set1(127.0f)), inverse_scale = inverse(scale);
        store_f32(call.at<float>(1) + panel.first_row, add(scale, unsound), panel.lanes);
        auto* to = call.at<uint32_t>(0) + panel.first_row * (K / 4);
        for (int64_t k = 0; k < K; k += 4, to += panel.lanes)
            store_words<4>(
                to, panel.lanes,
                [&](int i) {
                    VF code = code_of(load_f32(columns + (k + i) * LANES), inverse_scale, -127.0f, 127.0f);
                    return to_int(add(code, set1(128.0f)));
                },
                [](int i) { return 8 * i; });
    });
}

// p: panels, scales bf16 [panel][G][lanes], W. n: K, group size.
template <class A>
void quantize_w4(const Call& call, Worker& worker) {
    const int64_t K = call.n[0], group = call.n[1], groups = (K + group - 1) / group, rows = *call.rows;
    worker.for_tasks(num_panels(rows), [&](int64_t index) {
        const Panel panel(index, rows);
        float* scratch = worker.scratch.take<float>((K + group + 1) * LANES);
        const auto* w = call.at<const typename A::Value>(2) + panel.first_row * K;
        const float* columns = columns_of<A>(w, panel.lanes, K, scratch);
        float* errors = scratch + K * LANES;
        auto* to = call.at<uint32_t>(0) + panel.first_row * (K / WORD_CODES);
        auto* scales = call.at<uint16_t>(1) + panel.first_row * groups;
        for (int64_t g = 0; g < groups; ++g, scales += panel.lanes) {
            const float* first = columns + g * group * LANES;
            const int64_t size = std::min(group, K - g * group);
            VF least = set1(0.0f), most = set1(0.0f), unsound = set1(0.0f);
            if (size == group) least = most = load_f32(first);
            for (int64_t k = 0; k < size; ++k) {
                const VF value = load_f32(first + k * LANES);
                least = min(least, value);
                most = max(most, value);
                unsound = fma(value, set1(0.0f), unsound);
            }
            const VF top = choose(most, sub(set1(0.0f), least), least, most);
            VF scale = set1(0.0f), error = set1(0.0f);
            for (const float& code_of_top : CODES_OF_TOP) {
                const VF tried = round_bf16(div(top, set1(code_of_top))), inverse_tried = inverse(tried);
                for (int64_t k = 0; k < group; ++k) {
                    const VF value = k < size ? load_f32(first + k * LANES) : set1(0.0f);
                    const VF off = sub(mul(code_of(value, inverse_tried, -8.0f, 7.0f), tried), value);
                    store_f32(errors + k * LANES, mul(off, off));
                }
                const VF tried_error = sum_by_halves(errors, group);
                const bool is_first = &code_of_top == CODES_OF_TOP;
                scale = is_first ? tried : choose(tried_error, error, tried, scale);
                error = is_first ? tried_error : min(tried_error, error);
            }
            store_bf16(scales, add(scale, unsound), panel.lanes);
            const VF inverse_scale = inverse(scale);
            for (int64_t k = 0; k < size; k += WORD_CODES, to += panel.lanes)
                store_words<WORD_CODES>(
                    to, panel.lanes,
                    [&](int i) {
                        VF code = code_of(load_f32(first + (k + i) * LANES), inverse_scale, -8.0f, 7.0f);
                        return to_int(add(code, set1(8.0f)));
                    },
                    [](int i) { return i < 4 ? 8 * i : 8 * (i - 4) + 4; });
        }
    });
}

#define FOR_ACTIVATIONS(A)                              \
    template void quantize_w8<A>(const Call&, Worker&); \
    template void quantize_w4<A>(const Call&, Worker&);
FOR_ACTIVATIONS(Fp32)
FOR_ACTIVATIONS(Bf16)

}  // namespace farthing
