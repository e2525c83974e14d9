// SPDX-License-Identifier: Apache-2.0

#include "cpu.h"

unsigned ce_cpu_features(void) {
    unsigned features = 0;
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    // Asks XGETBV too: a processor with AVX2 under a system that does not save YMM says no.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) features |= CE_CPU_AVX2;
#elif defined(__aarch64__)
    features |= CE_CPU_NEON;  // part of the base architecture
#endif
    return features;
}
