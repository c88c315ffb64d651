// Plain C++: loops of sixteen that any compiler turns into what its processor has.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace farthing {

struct VF {
    float v[16];
};
struct VI {
    int32_t v[16];
};

constexpr int TILE_ROWS = 4, TILE_PANELS = 1;
constexpr int WIDENED_ROWS = 4, WIDENED_PANELS = 1;
constexpr int GROUPED_ROWS = 2, GROUPED_PANELS = 1;
constexpr bool MULTIPLIES_BF16 = false;  // dot2 is several instructions
constexpr bool DOT4_IS_SIGNED = true;

template <class Body>
inline VF make_f(Body body) {
    VF r;
    for (int i = 0; i < 16; ++i) r.v[i] = body(i);
    return r;
}
template <class Body>
inline VI make_i(Body body) {
    VI r;
    for (int i = 0; i < 16; ++i) r.v[i] = body(i);
    return r;
}
inline float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
inline uint32_t bf16_bits(float x) {  // rounded to even, in the high half
    uint32_t bits = bits_of(x);
    return (bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000 : bits + 0x7fff + ((bits >> 16) & 1);
}

inline VF set1(float x) { return make_f([&](int) { return x; }); }
inline VI set1_i32(int32_t x) { return make_i([&](int) { return x; }); }
inline VF load_f32(const float* p, int n) { return make_f([&](int i) { return i < n ? p[i] : 0.0f; }); }
inline VF load_f32(const float* p) { return load_f32(p, 16); }
inline void store_f32(float* p, VF v, int n) { std::memcpy(p, v.v, 4 * n); }
inline void store_f32(float* p, VF v) { store_f32(p, v, 16); }
inline VI load_i32(const void* p, int n) {
    VI r{};
    std::memcpy(r.v, p, 4 * n);
    return r;
}
inline VI load_i32(const void* p) { return load_i32(p, 16); }
inline void store_i32(void* p, VI v) { std::memcpy(p, v.v, 64); }
inline VF load_bf16(const uint16_t* p, int n) {
    return make_f([&](int i) { return i < n ? float_of(static_cast<uint32_t>(p[i]) << 16) : 0.0f; });
}
inline VF load_bf16(const uint16_t* p) { return load_bf16(p, 16); }
inline VF round_bf16(VF v) { return make_f([&](int i) { return float_of(bf16_bits(v.v[i]) & 0xffff0000); }); }
inline void store_bf16(uint16_t* p, VF v, int n) {
    for (int i = 0; i < n; ++i) p[i] = static_cast<uint16_t>(bf16_bits(v.v[i]) >> 16);
}
inline void store_bf16(uint16_t* p, VF v) { store_bf16(p, v, 16); }

inline VF add(VF a, VF b) { return make_f([&](int i) { return a.v[i] + b.v[i]; }); }
inline VF sub(VF a, VF b) { return make_f([&](int i) { return a.v[i] - b.v[i]; }); }
inline VF mul(VF a, VF b) { return make_f([&](int i) { return a.v[i] * b.v[i]; }); }
inline VF div(VF a, VF b) { return make_f([&](int i) { return a.v[i] / b.v[i]; }); }
inline VF fma(VF a, VF b, VF c) { return make_f([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); }); }
inline VF max(VF a, VF b) { return make_f([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
inline VF min(VF a, VF b) { return make_f([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
inline VF abs(VF a) { return make_f([&](int i) { return std::fabs(a.v[i]); }); }
inline VF round_even(VF a) { return make_f([&](int i) { return std::nearbyint(a.v[i]); }); }
inline VF scale_by_power(VF a, VF k) {
    return make_f([&](int i) { return std::isfinite(k.v[i]) ? std::ldexp(a.v[i], static_cast<int>(k.v[i])) : a.v[i]; });
}
inline VF zero_below(VF a, VF x, VF limit) {
    return make_f([&](int i) { return x.v[i] < limit.v[i] ? 0.0f : a.v[i]; });
}
inline VF select_lanes(VF a, int first, int end, VF other) {
    return make_f([&](int i) { return i >= first && i < end ? a.v[i] : other.v[i]; });
}
inline float reduce_add(VF a) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
    return a.v[0];
}
inline float reduce_max(VF a) {
    float top = a.v[0];
    for (int i = 1; i < 16; ++i) top = a.v[i] > top ? a.v[i] : top;
    return top;
}
inline VF to_float(VI a) { return make_f([&](int i) { return static_cast<float>(a.v[i]); }); }
inline VI to_int(VF a) { return make_i([&](int i) { return static_cast<int32_t>(std::nearbyint(a.v[i])); }); }
inline VI add(VI a, VI b) { return make_i([&](int i) { return a.v[i] + b.v[i]; }); }
inline int32_t reduce_add(VI a) {
    int32_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += a.v[i];
    return sum;
}
inline void store_i8(int8_t* p, VI v, int n) {
    for (int i = 0; i < n; ++i) p[i] = static_cast<int8_t>(v.v[i]);
}
inline VI load_i8(const int8_t* p, int n) { return make_i([&](int i) { return i < n ? p[i] : 0; }); }
inline VI load_i8(const int8_t* p) { return load_i8(p, 16); }
inline VI low_nibbles(VI v) {
    return make_i([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(v.v[i]) & 0x0f0f0f0fu); });
}
inline VI high_nibbles(VI v) {
    return make_i([&](int i) { return static_cast<int32_t>((static_cast<uint32_t>(v.v[i]) >> 4) & 0x0f0f0f0fu); });
}

template <int OFFSET>
inline VI dot4(VI acc, VI w, int32_t x) {
    const auto xs = static_cast<uint32_t>(x);
    return make_i([&](int i) {
        const auto ws = static_cast<uint32_t>(w.v[i]);
        int32_t sum = acc.v[i];
        for (int byte = 0; byte < 32; byte += 8)
            sum += (static_cast<int32_t>((ws >> byte) & 255) - OFFSET) * static_cast<int8_t>(xs >> byte);
        return sum;
    });
}
inline VF as_float(VI a) { return make_f([&](int i) { return float_of(static_cast<uint32_t>(a.v[i])); }); }

inline VF even_bf16(VI w) { return make_f([&](int i) { return float_of(static_cast<uint32_t>(w.v[i]) << 16); }); }
inline VF odd_bf16(VI w) { return make_f([&](int i) { return float_of(static_cast<uint32_t>(w.v[i]) & 0xffff0000); }); }
inline VF dot2(VF acc, VI w, int32_t x) {
    VI xs = set1_i32(x);
    return fma(odd_bf16(w), odd_bf16(xs), fma(even_bf16(w), even_bf16(xs), acc));
}

}  // namespace farthing
