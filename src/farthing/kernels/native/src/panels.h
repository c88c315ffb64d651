// The layout of packed weights: panels of 16 outputs, in a panel word by word of K, in a word lane by lane.
#pragma once

#include <algorithm>

#include "simd.h"

namespace farthing {

struct Panel {
    int64_t first_row;
    int lanes;  // 16, or fewer in the last

    Panel(int64_t index, int64_t rows)
        : first_row(index * LANES), lanes(static_cast<int>(std::min<int64_t>(LANES, rows - first_row))) {}
};

inline int64_t num_panels(int64_t rows) { return (rows + LANES - 1) / LANES; }

// body(lane, column) over `columns` of all lanes, sixteen columns at a time: a cache line of each row, then the next.
template <class Body>
inline void for_tiles(int lanes, int64_t columns, Body body) {
    for (int64_t start = 0; start < columns; start += LANES) {
        const int64_t end = std::min(columns, start + LANES);
        for (int lane = 0; lane < lanes; ++lane)
            for (int64_t column = start; column < end; ++column) body(lane, column);
    }
}

}  // namespace farthing
