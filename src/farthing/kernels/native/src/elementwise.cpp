// Everything between the products: rows of the embedding, add, RMSNorm, rotary positions, SwiGLU, rounding of
// activations. Rows are the tasks. Shapes: T rows, K columns, H heads, D head_dim.
#include <cmath>

#include "kernels.h"
#include "simd.h"

namespace farthing {

// out[T,K] = x[index[T]]; p: out, x, index int64. n: bytes of a row.
void gather(const Call& call, Worker& worker) {
    const int64_t bytes = call.n[0];
    for_rows(call, worker, bytes, [&](int64_t row) {
        std::memcpy(call.at<char>(0) + row * bytes, call.at<const char>(1) + call.at<const int64_t>(2)[row] * bytes, bytes);
    });
}

// The same out of a matrix packed for products (linear.cpp): p: out, panels, index. n: K, N, bytes of a value.
void gather_packed(const Call& call, Worker& worker) {
    const int64_t K = call.n[0], N = call.n[1], bytes = call.n[2], words = K * bytes / 4;
    for_rows(call, worker, K, [&](int64_t row) {
        const int64_t id = call.at<const int64_t>(2)[row], first = id / LANES * LANES;
        const int64_t lanes = std::min<int64_t>(LANES, N - first);
        const auto* panel = call.at<const uint32_t>(1) + first * words + id % LANES;
        auto* out = call.at<uint32_t>(0) + row * words;
        for (int64_t word = 0; word < words; ++word) out[word] = panel[word * lanes];
    });
}

// out = a + b; p: out, a, b. n: K.
template <class A>
void add_rows(const Call& call, Worker& worker) {
    using Value = typename A::Value;
    const int64_t K = call.n[0];
    for_rows(call, worker, K, [&](int64_t row) {
        auto *out = call.at<Value>(0) + row * K, *a = call.at<Value>(1) + row * K, *b = call.at<Value>(2) + row * K;
        for_lanes(K, [&](int64_t i, int n) { A::store(out + i, add(A::load(a + i, n), A::load(b + i, n)), n); });
    });
}

// out = x / sqrt(mean(x^2) + eps) * w, rounded before the weight; p: out, x, w. n: K, groups a row. f: eps.
template <class A>
void rms_norm(const Call& call, Worker& worker) {
    using Value = typename A::Value;
    const int64_t K = call.n[0], groups = call.n[1];
    const auto* w = call.at<const Value>(2);
    for_rows(call, worker, K * groups, [&](int64_t row) {
        for (int64_t group = row * groups; group < (row + 1) * groups; ++group) {
            const auto* x = call.at<const Value>(1) + group * K;
            auto* out = call.at<Value>(0) + group * K;
            VF squares = set1(0.0f);
            for_lanes(K, [&](int64_t i, int n) {
                VF v = A::load(x + i, n);
                squares = fma(v, v, squares);
            });
            const float mean = reduce_add(squares) / static_cast<float>(K);
            const VF scale = set1(1.0f / std::sqrt(mean + static_cast<float>(call.f[0])));
            for_lanes(K, [&](int64_t i, int n) {
                A::store(out + i, mul(A::load(w + i, n), A::round(mul(A::load(x + i, n), scale))), n);
            });
        }
    });
}

// cos and sin [T, D/2] of position * frequency, times a factor; p: cos, sin, positions int64, frequencies. n: D/2. f: factor.
void rotary_angles(const Call& call, Worker& worker) {
    const int64_t half = call.n[0];
    const auto factor = static_cast<float>(call.f[0]);
    for_rows(call, worker, half * 32, [&](int64_t row) {
        const auto position = static_cast<float>(call.at<const int64_t>(2)[row]);
        for (int64_t i = 0; i < half; ++i) {
            const float angle = position * call.at<const float>(3)[i];
            call.at<float>(0)[row * half + i] = std::cos(angle) * factor;
            call.at<float>(1)[row * half + i] = std::sin(angle) * factor;
        }
    });
}

// Rotates the pairs (i, i + D/2) of each head; p: out, x, cos, sin. n: heads, D/2.
template <class A>
void rope(const Call& call, Worker& worker) {
    using Value = typename A::Value;
    const int64_t heads = call.n[0], half = call.n[1];
    for_rows(call, worker, heads * half * 2, [&](int64_t row) {
        const float *cosines = call.at<float>(2) + row * half, *sines = call.at<float>(3) + row * half;
        for (int64_t head = row * heads; head < (row + 1) * heads; ++head) {
            const auto* x = call.at<const Value>(1) + head * half * 2;
            auto* out = call.at<Value>(0) + head * half * 2;
            for_lanes(half, [&](int64_t i, int n) {
                VF a = A::load(x + i, n), b = A::load(x + half + i, n);
                VF c = load_f32(cosines + i, n), s = load_f32(sines + i, n);
                A::store(out + i, sub(mul(a, c), mul(b, s)), n);
                A::store(out + half + i, add(mul(b, c), mul(a, s)), n);
            });
        }
    });
}

// out = silu(gate) * up, silu rounded first; p: out, gate, up. n: K.
template <class A>
void silu_mul(const Call& call, Worker& worker) {
    using Value = typename A::Value;
    const int64_t K = call.n[0];
    for_rows(call, worker, K, [&](int64_t row) {
        auto *out = call.at<Value>(0) + row * K, *gate = call.at<Value>(1) + row * K, *up = call.at<Value>(2) + row * K;
        for_lanes(K, [&](int64_t i, int n) {
            VF x = A::load(gate + i, n);
            VF silu = div(x, add(set1(1.0f), exp(sub(set1(0.0f), x))));
            A::store(out + i, mul(A::round(silu), A::load(up + i, n)), n);
        });
    });
}

// fp32 of what an activation type holds; p: out, x. n: K.
template <class A>
void widen(const Call& call, Worker& worker) {
    const int64_t K = call.n[0];
    for_rows(call, worker, K, [&](int64_t row) {
        for_lanes(K, [&](int64_t i, int n) {
            store_f32(call.at<float>(0) + row * K + i, A::load(call.at<const typename A::Value>(1) + row * K + i, n), n);
        });
    });
}

// The largest value of each row, and the first column that has it; NaN is larger than all. p: top fp32, token int64,
// x fp32. n: V.
void largest(const Call& call, Worker& worker) {
    const int64_t V = call.n[0];
    worker.for_tasks(*call.rows, [&](int64_t row) {
        const float* x = call.at<const float>(2) + row * V;
        VF tops = set1(x[0]), unsound = set1(0.0f);
        for_lanes(V, [&](int64_t i, int n) {
            VF value = n == LANES ? load_f32(x + i) : select_lanes(load_f32(x + i, n), 0, n, set1(x[0]));
            tops = max(tops, value);
            unsound = fma(value, set1(0.0f), unsound);
        });
        const float top = reduce_max(tops);
        int64_t token = 0;
        if (std::isnan(reduce_add(unsound))) {  // NaN or infinity somewhere: one after the other
            for (int64_t i = 1; i < V; ++i)
                if (x[i] > x[token] || (std::isnan(x[i]) && !std::isnan(x[token]))) token = i;
        } else {
            while (x[token] != top) ++token;
        }
        call.at<float>(0)[row] = x[token];
        call.at<int64_t>(1)[row] = token;
    });
}

// Rows rounded to 8 bits, each with its own scale; p: codes int8 [T,K], scales [T], sums of codes int32 [T,G], x.
// n: K, group size.
template <class A>
void quantize_rows(const Call& call, Worker& worker) {
    const int64_t K = call.n[0], group = call.n[1], groups = (K + group - 1) / group;
    for_rows(call, worker, K, [&](int64_t row) {
        const auto* x = call.at<const typename A::Value>(3) + row * K;
        auto* codes = call.at<int8_t>(0) + row * K;
        VF top = set1(0.0f), unsound = set1(0.0f);  // NaN and infinity times 0 are NaN, and so is then the whole row
        for_lanes(K, [&](int64_t i, int n) {
            VF value = A::load(x + i, n);
            top = max(top, abs(value));
            unsound = fma(value, set1(0.0f), unsound);
        });
        const float scale = std::max(reduce_max(top), 1e-12f) / 127.0f;
        const VF inverse = set1(1.0f / scale);
        call.at<float>(1)[row] = scale + reduce_add(unsound);
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t first = g * group, size = std::min(group, K - first);
            VI sum = set1_i32(0);
            for_lanes(size, [&](int64_t i, int n) {
                VF value = A::load(x + first + i, n), about = mul(value, inverse);
                VF rest = fma(about, set1(-scale), value);  // what the quotient lacks: then it is rounded as by division
                VF rounded = round_even(fma(rest, inverse, about));
                VI code = to_int(max(rounded, set1(-127.0f)));  // NaN becomes a code, too: sums stay within 32 bits
                store_i8(codes + first + i, code, n);
                sum = add(sum, code);
            });
            call.at<int32_t>(2)[row * groups + g] = reduce_add(sum);
        }
    });
}

#define FOR_ACTIVATIONS(A)                                   \
    template void add_rows<A>(const Call&, Worker&);         \
    template void rms_norm<A>(const Call&, Worker&);         \
    template void rope<A>(const Call&, Worker&);             \
    template void silu_mul<A>(const Call&, Worker&);         \
    template void widen<A>(const Call&, Worker&);            \
    template void quantize_rows<A>(const Call&, Worker&);
FOR_ACTIVATIONS(Fp32)
FOR_ACTIVATIONS(Bf16)

}  // namespace farthing
