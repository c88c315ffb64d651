// AVX2 and FMA: a vector of sixteen is two registers.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace farthing {

struct VF {
    __m256 a, b;
};
struct VI {
    __m256i a, b;
};

constexpr int TILE_ROWS = 4, TILE_PANELS = 1;
constexpr int WIDENED_ROWS = 4, WIDENED_PANELS = 1;
constexpr int GROUPED_ROWS = 2, GROUPED_PANELS = 1;
constexpr bool MULTIPLIES_BF16 = false;  // dot2 is several instructions
constexpr bool DOT4_IS_SIGNED = true;

inline __m256i mask8(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }

inline VF set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline VI set1_i32(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline VF load_f32(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline VF load_f32(const float* p, int n) {
    return {_mm256_maskload_ps(p, mask8(n)), _mm256_maskload_ps(p + 8, mask8(n - 8))};
}
inline void store_f32(float* p, VF v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
inline void store_f32(float* p, VF v, int n) {
    _mm256_maskstore_ps(p, mask8(n), v.a);
    _mm256_maskstore_ps(p + 8, mask8(n - 8), v.b);
}
inline VI load_i32(const void* p) {
    auto words = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(words), _mm256_loadu_si256(words + 1)};
}
inline VI load_i32(const void* p, int n) {
    auto words = static_cast<const int*>(p);
    return {_mm256_maskload_epi32(words, mask8(n)), _mm256_maskload_epi32(words + 8, mask8(n - 8))};
}
inline void store_i32(void* p, VI v) {
    auto words = static_cast<__m256i*>(p);
    _mm256_storeu_si256(words, v.a);
    _mm256_storeu_si256(words + 1, v.b);
}
inline __m256 widen_bf16(__m128i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16)); }
inline VF load_bf16(const uint16_t* p) {
    auto halves = reinterpret_cast<const __m128i*>(p);
    return {widen_bf16(_mm_loadu_si128(halves)), widen_bf16(_mm_loadu_si128(halves + 1))};
}
inline VF load_bf16(const uint16_t* p, int n) {
    uint16_t whole[16] = {};
    std::memcpy(whole, p, 2 * n);
    return load_bf16(whole);
}
inline __m256i bf16_bits(__m256 v) {
    __m256i bits = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(rounded, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), nan);
}
inline VF round_bf16(VF v) {
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000));
    return {_mm256_castsi256_ps(_mm256_and_si256(bf16_bits(v.a), high)),
            _mm256_castsi256_ps(_mm256_and_si256(bf16_bits(v.b), high))};
}
inline void store_bf16(uint16_t* p, VF v) {
    __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(bf16_bits(v.a), 16), _mm256_srli_epi32(bf16_bits(v.b), 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
inline void store_bf16(uint16_t* p, VF v, int n) {
    uint16_t whole[16];
    store_bf16(whole, v);
    std::memcpy(p, whole, 2 * n);
}

inline VF add(VF x, VF y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline VF sub(VF x, VF y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline VF mul(VF x, VF y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline VF div(VF x, VF y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline VF fma(VF x, VF y, VF z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline VF max(VF x, VF y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline VF min(VF x, VF y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline VF abs(VF x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline VF round_even(VF x) {
    constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.a, mode), _mm256_round_ps(x.b, mode)};
}
inline __m256 times_power(__m256 x, __m256 k) {
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(k), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(x, _mm256_castsi256_ps(exponent));
}
inline VF scale_by_power(VF x, VF k) { return {times_power(x.a, k.a), times_power(x.b, k.b)}; }
inline VF zero_below(VF x, VF y, VF limit) {
    return {_mm256_and_ps(x.a, _mm256_cmp_ps(y.a, limit.a, _CMP_NLT_UQ)),
            _mm256_and_ps(x.b, _mm256_cmp_ps(y.b, limit.b, _CMP_NLT_UQ))};
}
inline VF select_lanes(VF x, int first, int end, VF other) {
    __m256 in_a = _mm256_castsi256_ps(_mm256_andnot_si256(mask8(first), mask8(end)));
    __m256 in_b = _mm256_castsi256_ps(_mm256_andnot_si256(mask8(first - 8), mask8(end - 8)));
    return {_mm256_blendv_ps(other.a, x.a, in_a), _mm256_blendv_ps(other.b, x.b, in_b)};
}
inline float reduce_add(VF x) {
    __m256 s = _mm256_add_ps(x.a, x.b);
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}
inline float reduce_max(VF x) {
    __m256 s = _mm256_max_ps(x.a, x.b);
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_shuffle_ps(h, h, 1)));
}

inline VF to_float(VI x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline VI to_int(VF x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline VI add(VI x, VI y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline int32_t reduce_add(VI x) {
    int32_t words[16], sum = 0;
    store_i32(words, x);
    for (int32_t word : words) sum += word;
    return sum;
}
inline void store_i8(int8_t* p, VI v, int n) {
    int32_t words[16];
    store_i32(words, v);
    for (int i = 0; i < n; ++i) p[i] = static_cast<int8_t>(words[i]);
}
inline VI load_i8(const int8_t* p) {
    __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi8_epi32(codes), _mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8))};
}
inline VI load_i8(const int8_t* p, int n) {
    int8_t whole[16] = {};
    std::memcpy(whole, p, n);
    return load_i8(whole);
}
inline VI low_nibbles(VI v) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(v.a, mask), _mm256_and_si256(v.b, mask)};
}
inline VI high_nibbles(VI v) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(_mm256_srli_epi16(v.a, 4), mask), _mm256_and_si256(_mm256_srli_epi16(v.b, 4), mask)};
}

// maddubs adds two products in 16 bits: |w| <= 128 and |x| <= 127 keep the sum below 2^15, so nothing saturates.
template <int OFFSET>
inline __m256i dot4_half(__m256i acc, __m256i w, __m256i x) {
    __m256i s = _mm256_sub_epi8(w, _mm256_set1_epi8(static_cast<char>(OFFSET)));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(s), _mm256_sign_epi8(x, s));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
template <int OFFSET>
inline VI dot4(VI acc, VI w, int32_t x) {
    __m256i xs = _mm256_set1_epi32(x);
    return {dot4_half<OFFSET>(acc.a, w.a, xs), dot4_half<OFFSET>(acc.b, w.b, xs)};
}
inline VF as_float(VI x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }

inline VF even_bf16(VI w) { return as_float({_mm256_slli_epi32(w.a, 16), _mm256_slli_epi32(w.b, 16)}); }
inline VF odd_bf16(VI w) {
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000));
    return as_float({_mm256_and_si256(w.a, high), _mm256_and_si256(w.b, high)});
}
inline VF dot2(VF acc, VI w, int32_t x) {
    VI xs = set1_i32(x);
    return fma(odd_bf16(w), odd_bf16(xs), fma(even_bf16(w), even_bf16(xs), acc));
}

}  // namespace farthing
