// All kernels, in the order of their numbers (library.py names them in the same order).
#pragma once

#include <algorithm>

#include "call.h"

namespace farthing {

void gather(const Call&, Worker&);
void gather_packed(const Call&, Worker&);
template <class A> void add_rows(const Call&, Worker&);
template <class A> void rms_norm(const Call&, Worker&);
void rotary_angles(const Call&, Worker&);
template <class A> void rope(const Call&, Worker&);
template <class A> void silu_mul(const Call&, Worker&);
template <class A> void widen(const Call&, Worker&);
template <class A> void store_kv(const Call&, Worker&);
template <class A> void store_kv_int8(const Call&, Worker&);
template <class A> void attention(const Call&, Worker&);
template <class A> void attention_int8(const Call&, Worker&);
template <class A> void combine_attention(const Call&, Worker&);
template <class A> void quantize_rows(const Call&, Worker&);
void linear_fp32(const Call&, Worker&);
void linear_bf16(const Call&, Worker&);
void linear_widened(const Call&, Worker&);
template <class A> void linear_w8a8(const Call&, Worker&);
template <class A> void linear_w4a8(const Call&, Worker&);
void pack(const Call&, Worker&);
void unpack(const Call&, Worker&);
void pack_scales(const Call&, Worker&);
void peak_fp32(const Call&, Worker&);
void peak_bf16(const Call&, Worker&);
void peak_int8(const Call&, Worker&);
void read_bytes(const Call&, Worker&);
void largest(const Call&, Worker&);
template <class A> void quantize_w8(const Call&, Worker&);
template <class A> void quantize_w4(const Call&, Worker&);
template <class A> void pack_rows(const Call&, Worker&);

}  // namespace farthing
