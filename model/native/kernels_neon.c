/* 4 floats at a time, on every 64-bit ARM processor. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define NAME(x) x##_neon
#define LANES 4
typedef float32x4_t vec;
#define LOAD(p) vld1q_f32(p)
#define STORE(p, v) vst1q_f32(p, v)
#define ALL(p) vld1q_dup_f32(p)
#define SET(x) vdupq_n_f32(x)
#define ADD(a, b) vaddq_f32(a, b)
#define SUB(a, b) vsubq_f32(a, b)
#define MUL(a, b) vmulq_f32(a, b)
#define DIV(a, b) vdivq_f32(a, b)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
/* ARM's own maximum of NaN and a number is NaN */
#define MAX(a, b) vbslq_f32(vcgtq_f32(a, b), a, b)
#define MIN(a, b) vbslq_f32(vcltq_f32(a, b), a, b)
#define SCALE(v, t)                                                                               \
    vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(v),                                     \
                                    vshlq_n_s32(vreinterpretq_s32_f32(t), 23)))

#include "kernels.h"
#else
typedef int no_neon; /* a file must not be empty */
#endif
