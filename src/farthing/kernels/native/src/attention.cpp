// Causal grouped-query attention over a paged cache (layout: kv_cache.h), with the running maximum and sum of flash
// attention (Dao et al. 2022, arXiv 2205.14135), over chunks of 256 positions that are combined in order.
//
// A query is one head of one row. Queries that share a KV head are computed together, and chunks by several threads
// where there are few queries; neither changes the order of a query's sums.
#include <cmath>
#include <limits>

#include "kernels.h"
#include "kv_cache.h"
#include "simd.h"

namespace farthing {

namespace {

constexpr int64_t CHUNK = 256;
constexpr int QUERIES = 8;  // computed together: one accumulator each
constexpr int K_CACHE = 3, V_CACHE = 4;
constexpr float LOWEST = -std::numeric_limits<float>::infinity();

struct Shape {
    int64_t sequences, H, J, D, S, window, table_stride;
    const int64_t *first_rows, *num_rows, *starts, *tables;
    int64_t G() const { return H / J; }
};

// p: out, partials, q, k cache, v cache, first rows, rows, starts (int64 a sequence), tables int64 [sequences, stride].
// n: H, J, D, S, window (0: none), stride of tables, partials there is room for. rows: the number of sequences.
Shape shape_of(const Call& call) {
    return {*call.rows, call.n[0], call.n[1], call.n[2], call.n[3], call.n[4], call.n[5], call.at<int64_t>(5),
            call.at<int64_t>(6), call.at<int64_t>(7), call.at<int64_t>(8)};
}

// Some queries of a sequence that share a KV head: query i is head i % G of the group, of row i / G of the sequence.
struct Task {
    int64_t sequence, head, first_query, num_queries, first_chunk, num_chunks;
};

inline int64_t chunks_of(const Shape& s, int64_t sequence) {
    return (s.starts[sequence] + s.num_rows[sequence] + CHUNK - 1) / CHUNK;
}
inline int64_t tiles_of(const Shape& s, int64_t sequence) {
    return (s.num_rows[sequence] * s.G() + QUERIES - 1) / QUERIES;
}

// Whether each chunk is a task of its own: its results then wait in `partials` for combine_attention.
bool splits(const Shape& s, int64_t room, int num_threads) {
    int64_t tiles = 0, partials = 0, longest = 0;
    for (int64_t i = 0; i < s.sequences; ++i) {
        tiles += tiles_of(s, i) * s.J;
        partials += s.num_rows[i] * s.H * chunks_of(s, i);
        longest = std::max(longest, chunks_of(s, i));
    }
    return num_threads > 1 && longest > 1 && tiles < 4 * num_threads && partials <= room;
}

template <class Body>
void for_attention_tasks(const Shape& s, bool split, Worker& worker, Body body) {
    int64_t count = 0;
    for (int64_t i = 0; i < s.sequences; ++i) count += tiles_of(s, i) * s.J * (split ? chunks_of(s, i) : 1);
    int64_t sequence = 0, before = 0;  // tasks come in order: the sequence is found from where the last one was
    worker.for_tasks(count, [&](int64_t number) {
        const auto tasks_in = [&](int64_t i) { return tiles_of(s, i) * s.J * (split ? chunks_of(s, i) : 1); };
        while (number - before >= tasks_in(sequence)) before += tasks_in(sequence++);
        int64_t rest = number - before;
        const int64_t chunks = chunks_of(s, sequence), parts = split ? chunks : 1;
        const int64_t chunk = rest % parts;
        rest /= parts;
        const int64_t head = rest % s.J, tile = tiles_of(s, sequence) - 1 - rest / s.J;  // long ones first
        const int64_t first = tile * QUERIES, queries = std::min<int64_t>(QUERIES, s.num_rows[sequence] * s.G() - first);
        body(Task{sequence, head, first, queries, chunk, split ? 1 : chunks});
    });
}

// The sums of a query's scores so far, of 16 positions; `add` takes in some values of their keys, times the query's.
template <class Cache>
struct Scores;

template <>
struct Scores<PlainCache<Fp32>> {
    VF sum = set1(0.0f);
    void add(VI k, const float* q) { sum = fma(as_float(k), set1(*q), sum); }
    VF total() const { return sum; }
};
template <>
struct Scores<PlainCache<Bf16>> {
    VF sum = set1(0.0f);
    void add(VI k, const float* q) { sum = fma(odd_bf16(k), set1(q[1]), fma(even_bf16(k), set1(q[0]), sum)); }
    VF total() const { return sum; }
};
template <>
struct Scores<RoundedCache> {  // two sums: with one, the next addition would wait longer than its keys take to read
    VF first = set1(0.0f), second = set1(0.0f);
    void add(const RoundedCache::Keys& k, const float* q) {
        first = fma(k.first, set1(q[0]), first);
        second = fma(k.second, set1(q[1]), second);
    }
    VF total() const { return farthing::add(first, second); }
};

// Where the scales of a head's rows begin in a block.
inline const int8_t* scales_of(const Shape& s, const Call& call, int cache, int64_t block, int64_t head) {
    return RoundedCache::scales(call.at<const int8_t>(cache), block, head, s.J, s.D, s.S);
}

// The state of one query: largest score, sum of weights, weighted values.
struct State {
    float top, sum;
    float* out;  // [D]
};

// The first state takes in the second, as if its chunk had come after.
inline void merge(State& state, const State& next, int64_t D) {
    if (next.sum == 0.0f) return;  // nothing of that chunk is visible
    if (state.sum == 0.0f) {
        state.top = next.top;
        state.sum = next.sum;
        std::memcpy(state.out, next.out, D * sizeof(float));
        return;
    }
    const float top = std::max(state.top, next.top);
    const float kept = std::exp(state.top - top), added = std::exp(next.top - top);
    state.top = top;
    state.sum = state.sum * kept + next.sum * added;
    const VF keep = set1(kept), take = set1(added);
    for_lanes(D, [&](int64_t d, int n) {
        store_f32(state.out + d, fma(load_f32(state.out + d, n), keep, mul(load_f32(next.out + d, n), take)), n);
    });
}

// Q queries [Q][D] against one chunk. `weights` [Q][CHUNK] is scratch; positions first..end-1 count for some query.
template <class Cache, int Q>
void attend_chunk(const Shape& s, const Call& call, const Task& task, int64_t q0, int64_t chunk, const float* q,
                  float* weights, State* states) {
    using Value = typename Cache::Value;
    constexpr int64_t WORD = Cache::WORD, WORD_BYTES = WORD * sizeof(Value) * LANES;
    const int64_t D = s.D, S = s.S, G = s.G(), words = D / WORD, base = chunk * CHUNK;
    const int64_t* table = s.tables + task.sequence * s.table_stride;
    int64_t begins[Q], ends[Q], first = CHUNK, end = 0;
    for (int i = 0; i < Q; ++i) {
        const int64_t visible = s.starts[task.sequence] + (task.first_query + q0 + i) / G + 1;
        begins[i] = std::max<int64_t>(0, (s.window ? std::max<int64_t>(0, visible - s.window) : 0) - base);
        ends[i] = std::min(CHUNK, visible - base);
        first = std::min(first, begins[i]);
        end = std::max(end, ends[i]);
        states[i].top = LOWEST;
        states[i].sum = 0.0f;
    }
    if (first >= end) return;
    // Positions are walked in runs that lie in one block and one group of 16 of the chunk.
    const auto for_runs = [&](auto body) {
        for (int64_t at = first / LANES * LANES; at < end;) {
            const int64_t slot = (base + at) % S;
            const int64_t run = std::min({S - slot, LANES - at % LANES, end - at});
            body(at, static_cast<int>(run), table[(base + at) / S], slot);
            at += run;
        }
    };
    const auto rows_of = [&](int cache, int64_t block) {
        return Cache::rows(call.at<const Value>(cache), block, task.head, s.J, D, S);
    };
    for_runs([&](int64_t at, int run, int64_t block, int64_t slot) {
        const Value* k = rows_of(K_CACHE, block) + slot * Cache::W;
        const auto* v = reinterpret_cast<const char*>(rows_of(V_CACHE, block) + slot * D);  // needed soon: fetched meanwhile
        Scores<Cache> scores[Q];
        for (int64_t word = 0; word < words; ++word) {
            const auto keys = Cache::keys(k, word, S, run);
            __builtin_prefetch(v + word * WORD_BYTES);
#pragma GCC unroll 8
            for (int i = 0; i < Q; ++i) scores[i].add(keys, q + i * D + word * WORD);
        }
        VF totals[Q];
        for (int i = 0; i < Q; ++i) totals[i] = scores[i].total();
        if constexpr (Cache::SCALED) {
            const VF scales = as_float(load_i32(scales_of(s, call, K_CACHE, block, task.head) + slot * 4, run));
            __builtin_prefetch(scales_of(s, call, V_CACHE, block, task.head) + slot * 4);
            for (int i = 0; i < Q; ++i) totals[i] = mul(totals[i], scales);
        }
        for (int i = 0; i < Q; ++i) store_f32(weights + i * CHUNK + at, totals[i], run);
    });
    const int64_t from = first / LANES * LANES, to = (end + LANES - 1) / LANES * LANES;
    for (int i = 0; i < Q; ++i) {
        float* w = weights + i * CHUNK;
        if (begins[i] >= ends[i]) {
            std::memset(w + from, 0, (to - from) * sizeof(float));
            continue;
        }
        VF top = set1(LOWEST);
        const auto lanes_in = [&](int64_t at, VF v, float other) {
            const int lo = static_cast<int>(std::clamp<int64_t>(begins[i] - at, 0, LANES));
            const int hi = static_cast<int>(std::clamp<int64_t>(ends[i] - at, 0, LANES));
            return lo == 0 && hi == LANES ? v : select_lanes(v, lo, std::max(lo, hi), set1(other));
        };
        for (int64_t at = from; at < to; at += LANES) top = max(top, lanes_in(at, load_f32(w + at), LOWEST));
        states[i].top = reduce_max(top);
        const VF tops = set1(states[i].top);
        VF sum = set1(0.0f);
        for (int64_t at = from; at < to; at += LANES) {
            VF weight = lanes_in(at, exp(sub(load_f32(w + at), tops)), 0.0f);
            store_f32(w + at, weight);
            sum = add(sum, weight);
        }
        states[i].sum = reduce_add(sum);
    }
    if constexpr (Cache::SCALED) {  // of V: into the weights
        for_runs([&](int64_t at, int run, int64_t block, int64_t slot) {
            const VF scales = as_float(load_i32(scales_of(s, call, V_CACHE, block, task.head) + slot * 4, run));
            for (int i = 0; i < Q; ++i) {
                float* w = weights + i * CHUNK + at;
                store_f32(w, mul(load_f32(w, run), scales), run);
            }
        });
    }
    const int64_t num_positions = s.starts[task.sequence] + s.num_rows[task.sequence];
    for (int64_t d = 0; d < D; d += 2 * LANES) {
        const int low = static_cast<int>(std::min<int64_t>(LANES, D - d));
        const int high = static_cast<int>(std::clamp<int64_t>(D - d - LANES, 0, LANES));
        VF acc[Q][2];
        for (int i = 0; i < Q; ++i) acc[i][0] = acc[i][1] = set1(0.0f);
        for_runs([&](int64_t at, int run, int64_t block, int64_t slot) {
            const Value* v = rows_of(V_CACHE, block) + slot * D + d;
            if (const int64_t next = base + CHUNK + at; d == 0 && next < num_positions) {  // the next chunk's keys
                const Value* k = rows_of(K_CACHE, table[next / S]);
                for (int64_t i = 0; i < S * D; i += 64 / sizeof(Value)) __builtin_prefetch(k + i);
                if constexpr (Cache::SCALED) __builtin_prefetch(scales_of(s, call, K_CACHE, table[next / S], task.head));
            }
            const auto positions = [&](auto load) {
                for (int j = std::max<int64_t>(0, first - at); j < run; ++j) {
                    const VF a = load(v + j * D, low), b = high ? load(v + j * D + LANES, high) : set1(0.0f);
#pragma GCC unroll 8
                    for (int i = 0; i < Q; ++i) {
                        const VF weight = set1(weights[i * CHUNK + at + j]);
                        acc[i][0] = fma(a, weight, acc[i][0]);
                        acc[i][1] = fma(b, weight, acc[i][1]);
                    }
                }
            };
            if (low == LANES && high == LANES) positions([](const Value* p, int) { return Cache::load(p); });
            else positions([](const Value* p, int n) { return Cache::load(p, n); });
        });
        for (int i = 0; i < Q; ++i) {
            store_f32(states[i].out + d, acc[i][0], low);
            if (high) store_f32(states[i].out + d + LANES, acc[i][1], high);
        }
    }
}

template <class Cache, int Q>
void attend(const Shape& s, const Call& call, const Task& task, int64_t q0, int64_t chunk, const float* q, float* weights,
            State* states) {
    const int64_t rest = task.num_queries - q0;
    if (rest >= Q) {
        attend_chunk<Cache, Q>(s, call, task, q0, chunk, q + q0 * s.D, weights, states + q0);
        q0 += Q;
    }
    if constexpr (Q > 1)
        if (q0 < task.num_queries) attend<Cache, Q / 2>(s, call, task, q0, chunk, q, weights, states);
}

template <class A>
void finish(const Shape& s, const Call& call, int64_t head_row, const State& state) {
    const VF sum = set1(state.sum);
    for_lanes(s.D, [&](int64_t d, int n) {
        A::store(call.at<typename A::Value>(0) + head_row * s.D + d, div(load_f32(state.out + d, n), sum), n);
    });
}

inline int64_t head_row_of(const Shape& s, const Task& task, int64_t i) {
    const int64_t query = task.first_query + i, G = s.G();
    return (s.first_rows[task.sequence] + query / G) * s.H + task.head * G + query % G;
}

// Where the partial result of a query and chunk waits: top, sum, out[D].
inline float* partial_at(const Shape& s, const Call& call, int64_t sequence, int64_t head_row, int64_t chunk) {
    int64_t before = 0;
    for (int64_t i = 0; i < sequence; ++i) before += s.num_rows[i] * s.H * chunks_of(s, i);
    const int64_t own = head_row - s.first_rows[sequence] * s.H;
    return call.at<float>(1) + (before + own * chunks_of(s, sequence) + chunk) * (s.D + 2);
}

template <class A, class Cache>
void attend_all(const Call& call, Worker& worker) {
    const Shape s = shape_of(call);
    const bool split = splits(s, call.n[6], worker.num_threads);
    for_attention_tasks(s, split, worker, [&](const Task& task) {
        auto* weights = worker.scratch.take<float>(QUERIES * (CHUNK + 3 * s.D));
        float *outs = weights + QUERIES * CHUNK, *queries = outs + 2 * QUERIES * s.D;
        const VF scale = set1(1.0f / std::sqrt(static_cast<float>(s.D)));
        State whole[QUERIES], part[QUERIES];
        for (int i = 0; i < QUERIES; ++i) {
            whole[i] = {LOWEST, 0.0f, outs + i * s.D};
            part[i] = {LOWEST, 0.0f, outs + (QUERIES + i) * s.D};
        }
        for (int64_t i = 0; i < task.num_queries; ++i) {
            const auto* q = call.at<const typename A::Value>(2) + head_row_of(s, task, i) * s.D;
            for_lanes(s.D, [&](int64_t d, int n) { store_f32(queries + i * s.D + d, mul(A::load(q + d, n), scale), n); });
        }
        for (int64_t chunk = task.first_chunk; chunk < task.first_chunk + task.num_chunks; ++chunk) {
            attend<Cache, QUERIES>(s, call, task, 0, chunk, queries, weights, part);
            for (int64_t i = 0; i < task.num_queries; ++i) {
                if (split) {
                    float* out = partial_at(s, call, task.sequence, head_row_of(s, task, i), chunk);
                    out[0] = part[i].top;
                    out[1] = part[i].sum;
                    std::memcpy(out + 2, part[i].out, s.D * sizeof(float));
                } else {
                    merge(whole[i], part[i], s.D);
                }
            }
        }
        if (!split)
            for (int64_t i = 0; i < task.num_queries; ++i) finish<A>(s, call, head_row_of(s, task, i), whole[i]);
    });
}

}  // namespace

template <class A>
void attention(const Call& call, Worker& worker) {
    attend_all<A, PlainCache<A>>(call, worker);
}

// The same over a cache of int8 codes and scales.
template <class A>
void attention_int8(const Call& call, Worker& worker) {
    attend_all<A, RoundedCache>(call, worker);
}

// The partial results of attention, put together; nothing where it did not split. The same p and n.
template <class A>
void combine_attention(const Call& call, Worker& worker) {
    const Shape s = shape_of(call);
    if (!splits(s, call.n[6], worker.num_threads)) return;
    worker.for_tasks(s.sequences, [&](int64_t sequence) {
        auto* out = worker.scratch.take<float>(s.D);
        const int64_t first = s.first_rows[sequence] * s.H;
        for (int64_t head_row = first; head_row < first + s.num_rows[sequence] * s.H; ++head_row) {
            State whole{LOWEST, 0.0f, out};
            for (int64_t chunk = 0; chunk < chunks_of(s, sequence); ++chunk) {
                float* partial = partial_at(s, call, sequence, head_row, chunk);
                merge(whole, State{partial[0], partial[1], partial + 2}, s.D);
            }
            finish<A>(s, call, head_row, whole);
        }
    });
}

#define FOR_ACTIVATIONS(A)                                  \
    template void attention<A>(const Call&, Worker&);       \
    template void attention_int8<A>(const Call&, Worker&);  \
    template void combine_attention<A>(const Call&, Worker&);
FOR_ACTIVATIONS(Fp32)
FOR_ACTIVATIONS(Bf16)

}  // namespace farthing
