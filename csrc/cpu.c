// SPDX-License-Identifier: Apache-2.0

#include "cpu.h"

unsigned ce_cpu_features(void) {
    unsigned features = 0;
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    // Asks XGETBV too: a processor with AVX2 under a system that does not save YMM says no, and
    // one with AVX-512 under a system that does not save ZMM and masks.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) features |= CE_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        features & CE_CPU_AVX2)
        features |= CE_CPU_AVX512BW;
    if (__builtin_cpu_supports("avx512vbmi") && features & CE_CPU_AVX512BW)
        features |= CE_CPU_AVX512VBMI;
#elif defined(__aarch64__)
    features |= CE_CPU_NEON;  // part of the base architecture
#endif
    return features;
}
