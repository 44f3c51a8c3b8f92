/* 16 floats at a time, on x86-64 processors with AVX-512. */
#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx2,fma")
#endif

#define NAME(x) x##_avx512
#define LANES 16
typedef __m512 vec;
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define ALL(p) _mm512_set1_ps(*(p))
#define SET(x) _mm512_set1_ps(x)
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MUL(a, b) _mm512_mul_ps(a, b)
#define DIV(a, b) _mm512_div_ps(a, b)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define MAX(a, b) _mm512_max_ps(a, b)
#define MIN(a, b) _mm512_min_ps(a, b)
#define SCALE(v, t)                                                                               \
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v),                                  \
                                         _mm512_slli_epi32(_mm512_castps_si512(t), 23)))

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int no_avx512; /* a file must not be empty */
#endif
