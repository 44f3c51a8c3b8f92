/* What the library's files share: the network as it is laid out, and what is computed of it.
 *
 * All memory is the caller's. Sizes are in numbers of elements, arrays are dense, in C's order.
 * V tokens in the vocabulary, H hidden units a direction, filled up with zeros to a multiple of 32.
 */
#ifndef GLOSSATOR_NATIVE_H
#define GLOSSATOR_NATIVE_H

#include <stdint.h>

#include "export.h"

/* What the library's functions return. */
enum { OK, BAD_WIDTH, BAD_SIZES, BAD_TEXTS, BAD_TOKEN };

#define MAX_UNITS 2048
#define MAX_TASKS 64
#define GROUP 24     /* texts that go through a recurrence together: whole tiles */
#define ROWS 6       /* of a product that are computed together: 12 sums fill AVX2's registers */
#define NORM_EPSILON 1e-5f
#define LOG2_E 1.44269504088896341f

enum cell { GRU, LSTM, QRNN };

/* One task's head. */
struct head {
    int64_t outputs;
    int64_t width;            /* outputs, filled up to whole panels */
    const float *weights;     /* panels: [width / panel, pooled, panel], with the norm's scale */
    const float *bias;        /* [width] with the norm's shift */
    const float *constant;    /* [outputs] of the logits: what no state has a part in */
    const float *by_attended; /* [outputs, 2H] their derivatives by the normalized attended state */
};

struct network {
    int64_t cell;
    int64_t vocabulary;
    int64_t hidden;     /* H */
    int64_t units;      /* those of them that are not filled up */
    int64_t attention;  /* of a projection, filled up to whole panels */
    int64_t projections; /* one for all tasks, or one for each */
    int64_t tasks;
    int64_t task_width; /* tasks, filled up to whole panels */
    int64_t minimum;    /* whether it is pooled */
    int64_t pooled;     /* 2H for each pool */
    const float *table; /* [2, V, gates * H] the embedding through the input projections */
    const float *before;          /* [2, V, gates * H] of the token before: of a QRNN */
    const float *nothing;         /* [gates * H] zeros: where there is none */
    const float *recurrent;       /* [2, gates * H / panel, H, panel] */
    const float *new_bias;        /* [2, H] of a GRU's product for its new state */
    const float *projection;      /* of each: [attention / panel, 2H, panel] */
    const float *projection_bias; /* [projections, attention] */
    const float *queries;         /* of each: [task_width / panel, attention, panel] */
    const float *present;         /* [pooled] 1, of what only fills up 0 */
    const struct head *heads;     /* [tasks] */
};

/* The tasks that are asked for. */
struct request {
    int64_t count;
    const int64_t *tasks;   /* [count] */
    const uint8_t *wanted; /* [tasks] */
};

/* Some texts out of many. */
struct selection {
    int64_t count;
    const int64_t *rows; /* [count] which of the many, the longest first */
    int64_t many;
    int64_t tokens;         /* of the many */
    const int32_t *ids;     /* [tokens] one text after the other */
    const int64_t *offsets; /* [many + 1] where each begins, and the end */
};

struct results {
    int64_t room;        /* tokens that there is room for, of the texts together */
    int64_t longest;     /* and of one text */
    float *states;       /* [tokens of the texts, 2H] */
    float *attention;    /* [tokens of the texts, task_width] */
    float *pools;        /* [texts, 2H for each asked task, and for each other pool] */
    float *moments;      /* [texts, asked tasks, 2] mean and inverse deviation of the pooled */
    float *scratch;      /* [glossator_scratch()] */
    float *const *logits; /* of each asked task: [many texts, outputs] */
    const float *const *leaning; /* of each asked task: [texts, outputs] */
    float *const *weights;       /* of each asked task: [many texts' tokens] */
    float *const *entropy;       /* of each asked task: [many texts] */
    double *seconds;             /* [RECURRENCE, ATTENTION] that more is added to, or NULL */
};

/* What of the network's time is told apart; the rest goes to heads. */
enum { RECURRENCE, ATTENTION };

struct kernels {
    int64_t lanes;
    /* y[r] = bias + x[r] . weights, for weights [depth, width] in panels of two vectors of columns:
     * [width / panel, depth, panel]; without a bias, zeros */
    void (*affine)(const float *const *x, int64_t rows, int64_t depth, int64_t width,
                   const float *panels, const float *bias, float *const *y);
    void (*score)(const struct network *, const struct request *, const struct selection *,
                  struct results *);
    void (*contribute)(const struct network *, const struct request *, const struct selection *,
                       struct results *);
    float (*multiply_adds)(int64_t rounds);
};

/* The n-gram expert. */
struct expert {
    int64_t bits;    /* of a bucket's number */
    int64_t columns;
    int64_t vocabulary;
    const uint8_t *tags;    /* [2^bits] */
    const int8_t *table;    /* [2^bits, columns] */
    const uint8_t *content; /* the bytes of all tokens, one after the other */
    const int64_t *starts;  /* [vocabulary + 1] where each token's begin */
    const uint32_t *lower;  /* [0x3000] the lower case of a code point */
};

/* -sum of w * ln(w), in nats: the same bits everywhere. */
float entropy(const float *weights, int64_t count);

extern const struct kernels kernels_portable, kernels_avx2, kernels_avx512, kernels_neon;

#endif
