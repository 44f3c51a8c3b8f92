/* 8 floats at a time, on x86-64 processors with AVX2 and FMA (from 2013 on). */
#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define NAME(x) x##_avx2
#define LANES 8
typedef __m256 vec;
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define ALL(p) _mm256_broadcast_ss(p)
#define SET(x) _mm256_set1_ps(x)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MUL(a, b) _mm256_mul_ps(a, b)
#define DIV(a, b) _mm256_div_ps(a, b)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define MAX(a, b) _mm256_max_ps(a, b)
#define MIN(a, b) _mm256_min_ps(a, b)
#define SCALE(v, t)                                                                               \
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v),                                  \
                                         _mm256_slli_epi32(_mm256_castps_si256(t), 23)))

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int no_avx2; /* a file must not be empty */
#endif
