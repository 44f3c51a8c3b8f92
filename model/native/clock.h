/* How long parts of the work took. */
#ifndef GLOSSATOR_CLOCK_H
#define GLOSSATOR_CLOCK_H

#include <time.h>

/* Seconds since `*since`, which becomes now. */
static inline double lap(double *since)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    const double before = *since;
    *since = (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
    return *since - before;
}

#endif
