// Stored weights, row after row, into panels and back. What the words of a panel hold stands in linear.cpp.
#include "kernels.h"
#include "panels.h"

namespace farthing {

namespace {

// A word of a row as it lies in a panel; of int4 its eight codes in the order of the panels.
inline uint32_t panel_word(uint32_t x, int64_t kind) {
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

// [lanes][count] to [count][lanes].
template <class Value, class Convert>
void transpose_panel(const Panel& panel, int64_t count, const Value* from, Value* to, Convert convert) {
    for_tiles(panel.lanes, count, [&](int lane, int64_t i) {
        to[i * panel.lanes + lane] = convert(from[lane * count + i]);
    });
}

// The same for every panel; in place where p[0] is p[1].
template <class Value, class Convert>
void transpose_panels(const Call& call, int64_t count, int64_t rows, Worker& worker, Convert convert) {
    worker.for_tasks(num_panels(rows), [&](int64_t index) {
        const Panel panel(index, rows);
        auto* to = call.at<Value>(0) + panel.first_row * count;
        const auto* from = call.at<const Value>(1) + panel.first_row * count;
        if (to == from) {
            auto* copy = worker.scratch.take<Value>(panel.lanes * count);
            std::memcpy(copy, from, panel.lanes * count * sizeof(Value));
            from = copy;
        }
        transpose_panel(panel, count, from, to, convert);
    });
}

}  // namespace

// Rows of W, as many as call.rows says, into panels; p: panels, the largest magnitude of each panel in fp32 (NaN where a
// value is not finite), rows. n: K.
template <class A>
void pack_rows(const Call& call, Worker& worker) {
    const int64_t K = call.n[0], rows = *call.rows, words = K * sizeof(typename A::Value) / sizeof(uint32_t);
    worker.for_tasks(num_panels(rows), [&](int64_t index) {
        const Panel panel(index, rows);
        const auto* from = call.at<const typename A::Value>(2) + panel.first_row * K;
        VF top = set1(0.0f), unsound = set1(0.0f);  // NaN and infinity times 0 are NaN
        for_lanes(panel.lanes * K, [&](int64_t i, int lanes) {
            const VF value = lanes == LANES ? A::load(from + i) : A::load(from + i, lanes);
            top = max(top, abs(value));
            unsound = fma(value, set1(0.0f), unsound);
        });
        call.at<float>(1)[index] = reduce_max(top) + reduce_add(unsound);
        transpose_panel(panel, words, reinterpret_cast<const uint32_t*>(from), call.at<uint32_t>(0) + panel.first_row * words,
                        [](uint32_t x) { return x; });
    });
}

// Rows of W into panels, in place or not; p: panels, rows. n: words of a row, N, kind (0 plain, 1 int8, 2 int4).
void pack(const Call& call, Worker& worker) {
    const int64_t kind = call.n[2];
    const auto with = [&](auto convert) { transpose_panels<uint32_t>(call, call.n[0], call.n[1], worker, convert); };
    if (kind == 0) with([](uint32_t x) { return x; });
    else with([kind](uint32_t x) { return panel_word(x, kind); });
}

// Panels back into rows; p: rows of W, panels. n as above.
void unpack(const Call& call, Worker& worker) {
    const int64_t words = call.n[0], N = call.n[1], kind = call.n[2];
    worker.for_tasks(num_panels(N), [&](int64_t index) {
        const Panel panel(index, N);
        const auto* data = call.at<const uint32_t>(1) + panel.first_row * words;
        auto* rows = call.at<uint32_t>(0) + panel.first_row * words;
        for_tiles(panel.lanes, words, [&](int lane, int64_t word) {
            rows[lane * words + word] = row_word(data[word * panel.lanes + lane], kind);
        });
    });
}

// Scales bf16 [N, G] into [panel][G][lanes]; p: panels, rows, which may be the same. n: groups, N.
void pack_scales(const Call& call, Worker& worker) {
    transpose_panels<uint16_t>(call, call.n[0], call.n[1], worker, [](uint16_t x) { return x; });
}

template void pack_rows<Fp32>(const Call&, Worker&);
template void pack_rows<Bf16>(const Call&, Worker&);

}  // namespace farthing
