// New keys and values, written into the blocks of a paged cache (layout: kv_cache.h).
#include "kv_cache.h"

#include "kernels.h"
#include "rounding.h"

namespace farthing {

namespace {

// A row of D as int8 codes, each to its own place: put(d, lanes, codes of d and on). Returns the scale; NaN and infinity
// times 0 are NaN, and so is then the scale.
template <class A, class Put>
float round_row(const typename A::Value* x, int64_t D, Put put) {
    VF top = set1(0.0f), unsound = set1(0.0f);
    for_lanes(D, [&](int64_t d, int n) {
        const VF value = A::load(x + d, n);
        top = max(top, abs(value));
        unsound = fma(value, set1(0.0f), unsound);
    });
    const float scale = reduce_max(top) / 127.0f + reduce_add(unsound);
    const VF inverse_scale = inverse(set1(scale));
    for_lanes(D, [&](int64_t d, int n) {
        int8_t codes[LANES];
        store_i8(codes, to_int(code_of(A::load(x + d, n), inverse_scale, -127.0f, 127.0f)), n);
        put(d, n, codes);
    });
    return scale;
}

}  // namespace

// p: k cache, v cache, k, v, slots int64. n: J, D, S.
template <class A>
void store_kv(const Call& call, Worker& worker) {
    using Value = typename A::Value;
    using Cache = PlainCache<A>;
    constexpr int64_t W = Cache::W;
    const int64_t J = call.n[0], D = call.n[1], S = call.n[2];
    for_rows(call, worker, J * D * 2, [&](int64_t row) {
        const int64_t slot = call.at<const int64_t>(4)[row], block = slot / S, offset = slot % S;
        for (int64_t head = 0; head < J; ++head) {
            const int64_t from = (row * J + head) * D;
            const auto *k = call.at<const Value>(2) + from, *v = call.at<const Value>(3) + from;
            auto* k_out = Cache::rows(call.at<Value>(0), block, head, J, D, S);
            for (int64_t d = 0; d < D; d += W) std::memcpy(k_out + (d / W * S + offset) * W, k + d, 4);
            std::memcpy(Cache::rows(call.at<Value>(1), block, head, J, D, S) + offset * D, v, D * sizeof(Value));
        }
    });
}

// The same into a cache of int8 codes and scales.
template <class A>
void store_kv_int8(const Call& call, Worker& worker) {
    using Value = typename A::Value;
    using Cache = RoundedCache;
    const int64_t J = call.n[0], D = call.n[1], S = call.n[2];
    for_rows(call, worker, J * D * 2, [&](int64_t row) {
        const int64_t slot = call.at<const int64_t>(4)[row], block = slot / S, offset = slot % S;
        for (int64_t head = 0; head < J; ++head) {
            const int64_t from = (row * J + head) * D;
            for (int i = 0; i < 2; ++i) {  // K, then V
                auto* cache = call.at<int8_t>(i);
                auto* out = Cache::rows(cache, block, head, J, D, S);
                const int64_t start = i ? offset * D : offset, stride = i ? 1 : S;
                const float scale = round_row<A>(call.at<const Value>(2 + i) + from, D, [&](int64_t d, int n, int8_t* codes) {
                    for (int lane = 0; lane < n; ++lane) out[start + (d + lane) * stride] = codes[lane];
                });
                std::memcpy(Cache::scales(cache, block, head, J, D, S) + offset * 4, &scale, 4);
            }
        }
    });
}

#define FOR_ACTIVATIONS(A)                           \
    template void store_kv<A>(const Call&, Worker&); \
    template void store_kv_int8<A>(const Call&, Worker&);
FOR_ACTIVATIONS(Fp32)
FOR_ACTIVATIONS(Bf16)

}  // namespace farthing
