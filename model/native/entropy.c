/* A logarithm of our own: the C library's differs from one machine to the next. */
#include <string.h>

#include "native.h"

/* ln(x) of a normal x > 0, to 1e-12: x = m * 2^e with m from sqrt(1/2) to sqrt(2), and
 * ln(m) = 2 artanh(s), s = (m - 1) / (m + 1). */
static double logarithm(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    /* what is added carries into the exponent where m would be above sqrt(2) */
    uint64_t moved = bits - 0x3FE6A09E667F3BCDu;
    int64_t exponent = (int64_t)moved >> 52;
    bits -= (uint64_t)exponent << 52;
    double m;
    memcpy(&m, &bits, sizeof m);
    double s = (m - 1.0) / (m + 1.0), square = s * s;
    double series = 1.0 / 15.0;
    series = series * square + 1.0 / 13.0;
    series = series * square + 1.0 / 11.0;
    series = series * square + 1.0 / 9.0;
    series = series * square + 1.0 / 7.0;
    series = series * square + 1.0 / 5.0;
    series = series * square + 1.0 / 3.0;
    series = series * square + 1.0;
    return 2.0 * s * series + (double)exponent * 0.693147180559945309;
}

float entropy(const float *weights, int64_t count)
{
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double weight = weights[i];
        if (weight > 0.0)
            sum -= weight * logarithm(weight);
    }
    return (float)sum;
}
