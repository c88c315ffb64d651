// What Python calls: four functions, and the table of kernels.
#include "kernels.h"
#include "pool.h"
#include "simd.h"

namespace farthing {

const Kernel KERNELS[] = {
    gather,
    gather_packed,
    add_rows<Fp32>,
    add_rows<Bf16>,
    rms_norm<Fp32>,
    rms_norm<Bf16>,
    rotary_angles,
    rope<Fp32>,
    rope<Bf16>,
    silu_mul<Fp32>,
    silu_mul<Bf16>,
    widen<Fp32>,
    widen<Bf16>,
    store_kv<Fp32>,
    store_kv<Bf16>,
    store_kv_int8<Fp32>,
    store_kv_int8<Bf16>,
    attention<Fp32>,
    attention<Bf16>,
    attention_int8<Fp32>,
    attention_int8<Bf16>,
    combine_attention<Fp32>,
    combine_attention<Bf16>,
    quantize_rows<Fp32>,
    quantize_rows<Bf16>,
    linear_fp32,
    linear_bf16,
    linear_widened,
    linear_w8a8<Fp32>,
    linear_w8a8<Bf16>,
    linear_w4a8<Fp32>,
    linear_w4a8<Bf16>,
    pack,
    unpack,
    pack_scales,
    peak_fp32,
    peak_bf16,
    peak_int8,
    read_bytes,
    largest,
    quantize_w8<Fp32>,
    quantize_w8<Bf16>,
    quantize_w4<Fp32>,
    quantize_w4<Bf16>,
    pack_rows<Fp32>,
    pack_rows<Bf16>,
};

}  // namespace farthing

extern "C" {

void* farthing_open(int num_threads) { return new farthing::Pool(num_threads); }

void farthing_close(void* pool) { delete static_cast<farthing::Pool*>(pool); }

void farthing_wake(void* pool) { static_cast<farthing::Pool*>(pool)->rouse(); }

// Calls lie one after the other; returns when all are done.
void farthing_run(void* pool, const farthing::Call* calls, int count) { static_cast<farthing::Pool*>(pool)->run(calls, count); }
}
