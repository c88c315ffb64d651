// What the processor can do at most: chains of one instruction without memory, and memory read without arithmetic.
// Every thread runs one task, so `farthing probe` learns what all of them reach together.
#include "kernels.h"
#include "simd.h"

namespace farthing {

namespace {

constexpr int CHAINS = 12;  // enough to hide the latency of one

template <class Acc, class Start, class Step>
void chain(const Call& call, Worker& worker, Start start, Step step) {
    worker.for_tasks(*call.rows, [&](int64_t task) {
        Acc acc[CHAINS];
        for (int c = 0; c < CHAINS; ++c) acc[c] = start(c);  // each another value: equal chains would be computed once
        for (int64_t i = 0; i < call.n[0]; ++i)
#pragma GCC unroll 16
            for (int c = 0; c < CHAINS; ++c) acc[c] = step(acc[c]);
        for (int c = 1; c < CHAINS; ++c) acc[0] = add(acc[0], acc[c]);
        std::memcpy(call.at<char>(0) + task * sizeof(Acc), &acc[0], sizeof(Acc));
    });
}

}  // namespace

// p: 64 bytes a row, written. n: repeats of CHAINS steps; a step is 32 FLOPs in fp32, 64 in bf16, 128 in int8.
void peak_fp32(const Call& call, Worker& worker) {
    chain<VF>(call, worker, set1, [x = set1(0.5f)](VF acc) { return fma(acc, x, x); });
}
void peak_bf16(const Call& call, Worker& worker) {
    const VF half = set1(0.5f);
    const VI halves = set1_i32(0x3f003f00);
    if (MULTIPLIES_BF16) chain<VF>(call, worker, set1, [=](VF acc) { return dot2(acc, halves, 0x3f003f00); });
    else chain<VF>(call, worker, set1, [=](VF acc) { return fma(fma(acc, half, half), half, half); });
}
void peak_int8(const Call& call, Worker& worker) {
    chain<VI>(call, worker, set1_i32, [w = set1_i32(0x01010101)](VI acc) { return dot4<0>(acc, w, 0x01010101); });
}

// Reads p[1], a part of `n` bytes (a multiple of 256) a row, and writes 64 bytes a row to p[0].
void read_bytes(const Call& call, Worker& worker) {
    const int64_t part = call.n[0];
    worker.for_tasks(*call.rows, [&](int64_t task) {
        const char* data = call.at<const char>(1) + task * part;
        VI sums[4] = {set1_i32(0), set1_i32(0), set1_i32(0), set1_i32(0)};
        for (int64_t at = 0; at < part; at += 256) {
            __builtin_prefetch(data + at + 4096);
            for (int i = 0; i < 4; ++i) sums[i] = add(sums[i], load_i32(data + at + 64 * i));
        }
        store_i32(call.at<char>(0) + task * 64, add(add(sums[0], sums[1]), add(sums[2], sums[3])));
    });
}

}  // namespace farthing
