// SPDX-License-Identifier: Apache-2.0
// What the processor and the operating system offer: asked here and nowhere else.

#ifndef CE_CPU_H
#define CE_CPU_H

enum {
    CE_CPU_AVX2 = 1u << 0,  // with BMI2, as in every processor of note
    CE_CPU_AVX512BW = 1u << 1,  // F, BW, DQ and VL, and what CE_CPU_AVX2 stands for
    CE_CPU_AVX512VBMI = 1u << 2,  // VBMI, and what CE_CPU_AVX512BW stands for
    CE_CPU_NEON = 1u << 3,
};

// A set of CE_CPU_ bits.
unsigned ce_cpu_features(void);

#endif
