// Sixteen lanes of fp32 or int32 as one value, whatever the processor: the only file of kernels that knows which.
//
// VF and VI are vectors of 16 floats and 16 int32. Every operation rounds alike on all processors except dot2, whose
// bf16 products some processors add in pairs. Sources: Intel Intrinsics Guide; bf16 rounding as in IEEE 754, to even.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512VNNI__)
#include "simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "simd_avx2.h"
#else
#include "simd_portable.h"
#endif

namespace farthing {

constexpr int LANES = 16;

inline uint16_t to_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);  // NaN stays NaN
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float from_bf16(uint16_t x) {
    uint32_t bits = static_cast<uint32_t>(x) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// Activations are fp32 or bf16; kernels are written once over these two.
struct Fp32 {
    using Value = float;
    static VF load(const float* p) { return load_f32(p); }
    static VF load(const float* p, int n) { return load_f32(p, n); }
    static void store(float* p, VF v) { store_f32(p, v); }
    static void store(float* p, VF v, int n) { store_f32(p, v, n); }
    static float get(const float* p) { return *p; }
    static float round(float x) { return x; }
    static VF round(VF x) { return x; }
};

struct Bf16 {
    using Value = uint16_t;
    static VF load(const uint16_t* p) { return load_bf16(p); }
    static VF load(const uint16_t* p, int n) { return load_bf16(p, n); }
    static void store(uint16_t* p, VF v) { store_bf16(p, v); }
    static void store(uint16_t* p, VF v, int n) { store_bf16(p, v, n); }
    static float get(const uint16_t* p) { return from_bf16(*p); }
    static float round(float x) { return from_bf16(to_bf16(x)); }
    static VF round(VF x) { return round_bf16(x); }
};

// Applies `body(i, lanes)` to 0..n in steps of 16; the last step may have fewer lanes.
template <class Body>
inline void for_lanes(int64_t n, Body body) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) body(i, LANES);
    if (i < n) body(i, static_cast<int>(n - i));
}

// e^x: 2^k * p(r), Cody-Waite reduction, degree 6 (Cephes expf). 0 below -87.3, e^88 above 88, NaN stays NaN (min and
// max return their second value then).
inline VF exp(VF x) {
    VF bounded = min(set1(88.0f), max(set1(-87.3f), x));
    VF k = round_even(mul(bounded, set1(1.44269504088896341f)));
    VF r = fma(k, set1(-0.693359375f), bounded);
    r = fma(k, set1(2.12194440e-4f), r);
    VF p = set1(1.9875691500e-4f);
    p = fma(p, r, set1(1.3981999507e-3f));
    p = fma(p, r, set1(8.3334519073e-3f));
    p = fma(p, r, set1(4.1665795894e-2f));
    p = fma(p, r, set1(1.6666665459e-1f));
    p = fma(p, r, set1(5.0000001201e-1f));
    p = fma(p, mul(r, r), add(r, set1(1.0f)));
    return zero_below(scale_by_power(p, k), x, set1(-87.3f));
}

}  // namespace farthing
