/* One float at a time, for every processor; where there are fused multiply-adds in hardware, the
 * other files are faster. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define NAME(x) x##_portable
#define LANES 1
typedef float vec;
#define LOAD(p) (*(p))
#define STORE(p, v) (*(p) = (v))
#define ALL(p) (*(p))
#define SET(x) (x)
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define DIV(a, b) ((a) / (b))
#define FMA(a, b, c) fmaf(a, b, c)
#define MAX(a, b) portable_max(a, b)
#define MIN(a, b) portable_min(a, b)
#define SCALE(v, t) portable_scale(v, t)

static inline float portable_max(float a, float b) { return a > b ? a : b; }

static inline float portable_min(float a, float b) { return a < b ? a : b; }

static inline float portable_scale(float v, float t)
{
    uint32_t bits, power;
    memcpy(&bits, &v, sizeof bits);
    memcpy(&power, &t, sizeof power);
    bits += power << 23;
    memcpy(&v, &bits, sizeof v);
    return v;
}

#include "kernels.h"
