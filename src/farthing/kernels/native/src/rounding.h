// Rounding to codes of a scale: kernels/weight.py and kernels/kv_rows.py round in the same way, bit for bit.
#pragma once

#include <limits>

#include "simd.h"

namespace farthing {

// 1 / scale; 0 where it would not be finite.
inline VF inverse(VF scale) {
    return zero_below(div(set1(1.0f), scale), abs(scale), set1(std::numeric_limits<float>::min()));
}

inline VF code_of(VF w, VF inverse_scale, float least, float most) {
    return min(max(round_even(mul(w, inverse_scale)), set1(least)), set1(most));
}

}  // namespace farthing
