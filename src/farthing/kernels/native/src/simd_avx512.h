// AVX-512 with VNNI; bf16 products by AVX512_BF16 where the compiler was told so.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace farthing {

using VF = __m512;
using VI = __m512i;

constexpr int TILE_ROWS = 6, TILE_PANELS = 4;  // accumulators that fit 32 registers
constexpr int WIDENED_ROWS = 12, WIDENED_PANELS = 2;
constexpr int GROUPED_ROWS = 6, GROUPED_PANELS = 2;
#if defined(__AVX512BF16__)
constexpr bool MULTIPLIES_BF16 = true;  // dot2 is one instruction
#else
constexpr bool MULTIPLIES_BF16 = false;
#endif
constexpr bool DOT4_IS_SIGNED = false;  // dot4 multiplies unsigned weights: the caller takes off their offset

inline __mmask16 lanes_mask(int n) { return static_cast<__mmask16>((1u << n) - 1); }

inline VF set1(float x) { return _mm512_set1_ps(x); }
inline VI set1_i32(int32_t x) { return _mm512_set1_epi32(x); }
inline VF load_f32(const float* p) { return _mm512_loadu_ps(p); }
inline VF load_f32(const float* p, int n) { return _mm512_maskz_loadu_ps(lanes_mask(n), p); }
inline void store_f32(float* p, VF v) { _mm512_storeu_ps(p, v); }
inline void store_f32(float* p, VF v, int n) { _mm512_mask_storeu_ps(p, lanes_mask(n), v); }
inline VI load_i32(const void* p) { return _mm512_loadu_si512(p); }
inline VI load_i32(const void* p, int n) { return _mm512_maskz_loadu_epi32(lanes_mask(n), p); }
inline void store_i32(void* p, VI v) { _mm512_storeu_si512(p, v); }

inline VF widen_bf16(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
inline VF load_bf16(const uint16_t* p) { return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline VF load_bf16(const uint16_t* p, int n) { return widen_bf16(_mm256_maskz_loadu_epi16(lanes_mask(n), p)); }

inline __m512i bf16_bits(VF v) {  // rounded to even, in the high half of each lane
    __m512i bits = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
}
inline VF round_bf16(VF v) {
    return _mm512_castsi512_ps(_mm512_and_si512(bf16_bits(v), _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}
inline void store_bf16(uint16_t* p, VF v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(bf16_bits(v), 16)));
}
inline void store_bf16(uint16_t* p, VF v, int n) {
    _mm256_mask_storeu_epi16(p, lanes_mask(n), _mm512_cvtepi32_epi16(_mm512_srli_epi32(bf16_bits(v), 16)));
}

inline VF add(VF a, VF b) { return _mm512_add_ps(a, b); }
inline VF sub(VF a, VF b) { return _mm512_sub_ps(a, b); }
inline VF mul(VF a, VF b) { return _mm512_mul_ps(a, b); }
inline VF div(VF a, VF b) { return _mm512_div_ps(a, b); }
inline VF fma(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }
inline VF max(VF a, VF b) { return _mm512_max_ps(a, b); }
inline VF min(VF a, VF b) { return _mm512_min_ps(a, b); }
inline VF abs(VF a) { return _mm512_abs_ps(a); }
inline VF round_even(VF a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline VF scale_by_power(VF a, VF k) { return _mm512_scalef_ps(a, k); }
inline VF zero_below(VF a, VF x, VF limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), a);
}
inline VF select_lanes(VF a, int first, int end, VF other) {  // a in lanes first..end-1, other elsewhere
    auto mask = static_cast<__mmask16>(((1u << end) - 1) & ~((1u << first) - 1));
    return _mm512_mask_mov_ps(other, mask, a);
}
inline float reduce_add(VF a) { return _mm512_reduce_add_ps(a); }
inline float reduce_max(VF a) { return _mm512_reduce_max_ps(a); }

inline VF to_float(VI a) { return _mm512_cvtepi32_ps(a); }
inline VI to_int(VF a) { return _mm512_cvtps_epi32(a); }
inline VI add(VI a, VI b) { return _mm512_add_epi32(a, b); }
inline int32_t reduce_add(VI a) { return _mm512_reduce_add_epi32(a); }
inline void store_i8(int8_t* p, VI v, int n) { _mm_mask_storeu_epi8(p, lanes_mask(n), _mm512_cvtepi32_epi8(v)); }
inline VI load_i8(const int8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline VI load_i8(const int8_t* p, int n) { return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes_mask(n), p)); }
inline VI low_nibbles(VI v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline VI high_nibbles(VI v) { return _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15)); }

// acc + w . x over four bytes of each lane: w unsigned, x four signed bytes, the same for all lanes; exact.
template <int OFFSET>
inline VI dot4(VI acc, VI w, int32_t x) { return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(x)); }

inline VF as_float(VI a) { return _mm512_castsi512_ps(a); }

// The even and the odd bf16 of each lane.
inline VF even_bf16(VI w) { return as_float(_mm512_slli_epi32(w, 16)); }
inline VF odd_bf16(VI w) { return as_float(_mm512_and_si512(w, _mm512_set1_epi32(static_cast<int>(0xffff0000)))); }

// acc + w . x over the two bf16 of each lane.
inline VF dot2(VF acc, VI w, int32_t x) {
#if defined(__AVX512BF16__)
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(_mm512_set1_epi32(x)));
#else
    VI xs = _mm512_set1_epi32(x);
    return fma(odd_bf16(w), odd_bf16(xs), fma(even_bf16(w), even_bf16(xs), acc));
#endif
}

}  // namespace farthing
