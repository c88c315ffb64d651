"""llama.cpp's own quantization, every matrix in one type; runs in the peers' Python.

Arguments: IN.gguf OUT.gguf {q8_0|q4_0}.
"""

import ctypes
import sys

import llama_cpp as lc

TYPES = {"q8_0": lc.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": lc.LLAMA_FTYPE_MOSTLY_Q4_0}

if __name__ == "__main__":
    source, out, name = sys.argv[1:]
    lc.llama_backend_init()
    options = lc.llama_model_quantize_default_params()
    options.ftype, options.pure = TYPES[name], True
    sys.exit(lc.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(options)))
