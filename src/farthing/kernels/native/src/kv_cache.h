// How keys and values lie in the blocks of a paged cache. Per KV head a block holds K as [D / W][S][W], W values side
// by side (positions are the lanes of attention.cpp), and V as [S][D]. D is even.
#pragma once

#include "simd.h"

namespace farthing {

// In the type of the activations; W values are the 32 bits of a lane.
template <class A>
struct PlainCache {
    using Value = typename A::Value;
    static constexpr int64_t W = 4 / sizeof(Value), WORD = W;  // WORD: values of K that are read in one step
    static constexpr bool SCALED = false;

    // Where the K or V of a head begins in a block.
    template <class T>
    static T* rows(T* cache, int64_t block, int64_t head, int64_t J, int64_t D, int64_t S) {
        return cache + (block * J + head) * S * D;
    }
    static VI keys(const Value* k, int64_t word, int64_t S, int n) {
        const auto* words = reinterpret_cast<const int32_t*>(k) + word * S;
        return n == LANES ? load_i32(words) : load_i32(words, n);
    }
    static VF load(const Value* p) { return A::load(p); }
    static VF load(const Value* p, int n) { return A::load(p, n); }
};

// As int8 codes, with a scale in fp32 for each row of D: in a block first all codes, then the scales as [J][S]. These
// may lie at any byte.
struct RoundedCache {
    using Value = int8_t;
    static constexpr int64_t W = 1, WORD = 2;
    static constexpr bool SCALED = true;
    struct Keys {
        VF first, second;
    };

    template <class T>
    static T* rows(T* cache, int64_t block, int64_t head, int64_t J, int64_t D, int64_t S) {
        return cache + block * S * J * (D + 4) + head * S * D;
    }
    template <class T>
    static T* scales(T* cache, int64_t block, int64_t head, int64_t J, int64_t D, int64_t S) {
        return cache + block * S * J * (D + 4) + S * J * D + head * S * 4;
    }
    static Keys keys(const Value* k, int64_t word, int64_t S, int n) {
        const Value* codes = k + word * WORD * S;
        return n == LANES ? Keys{load(codes), load(codes + S)} : Keys{load(codes, n), load(codes + S, n)};
    }
    static VF load(const Value* p) { return to_float(load_i8(p)); }
    static VF load(const Value* p, int n) { return to_float(load_i8(p, n)); }
};

}  // namespace farthing
