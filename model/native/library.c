/* The library's entry points: they choose a width, check what they are given, and compute. */
#include <stddef.h>

#include "native.h"

enum { PORTABLE, AVX2, AVX512, NEON };

static const struct kernels *kernels(int64_t width)
{
    if (width == PORTABLE)
        return &kernels_portable;
#if defined(__x86_64__)
    if (width == AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &kernels_avx2;
    if (width == AVX512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma"))
        return &kernels_avx512;
#elif defined(__aarch64__)
    if (width == NEON)
        return &kernels_neon;
#endif
    return NULL;
}

/* Floats of a vector of a width; 0 where this machine has none such. */
EXPORT int64_t glossator_lanes(int64_t width)
{
    const struct kernels *chosen = kernels(width);
    return chosen ? chosen->lanes : 0;
}

/* Does so many rounds of multiply-adds as fast as can be; how many there are in a round. `unused`
 * receives a number, so that none is left out. */
EXPORT int64_t glossator_multiply_adds(int64_t width, int64_t rounds, float *unused)
{
    const struct kernels *chosen = kernels(width);
    if (!chosen)
        return 0;
    *unused = chosen->multiply_adds(rounds);
    return 2 * ROWS * chosen->lanes;
}

/* y = bias + x . weights, of x [rows, depth] and y [rows, columns]; see struct kernels. */
EXPORT int64_t glossator_affine(int64_t width, const float *x, int64_t rows, int64_t depth,
                                int64_t columns, const float *panels, const float *bias, float *y)
{
    const struct kernels *chosen = kernels(width);
    if (!chosen)
        return BAD_WIDTH;
    if (rows < 0 || depth < 0 || columns < 0 || columns % (2 * chosen->lanes))
        return BAD_SIZES;
    for (int64_t first = 0; first < rows; first += ROWS) {
        const int64_t count = rows - first < ROWS ? rows - first : ROWS;
        const float *in[ROWS];
        float *out[ROWS];
        for (int64_t r = 0; r < count; r++)
            in[r] = x + (first + r) * depth, out[r] = y + (first + r) * columns;
        chosen->affine(in, count, depth, columns, panels, bias, out);
    }
    return OK;
}

static int sizes_hold(const struct network *net, const struct request *asked, int64_t lanes)
{
    const int64_t panel = 2 * lanes;
    if (net->cell < GRU || net->cell > QRNN || net->vocabulary < 1 || net->hidden < 32 ||
        net->hidden > MAX_UNITS || net->hidden % 32 || net->units < 1 ||
        net->units > net->hidden || net->attention < panel || net->attention > MAX_UNITS ||
        net->attention % panel || net->tasks < 1 || net->tasks > MAX_TASKS ||
        (net->projections != 1 && net->projections != net->tasks) ||
        net->task_width < net->tasks || net->task_width > MAX_TASKS || net->task_width % panel ||
        net->pooled != (net->minimum ? 4 : 3) * 2 * net->hidden)
        return 0;
    for (int64_t t = 0; t < net->tasks; t++) {
        const struct head *head = net->heads + t;
        if (head->outputs < 1 || head->width < head->outputs || head->width % panel)
            return 0;
    }
    if (asked->count < 0 || asked->count > net->tasks)
        return 0;
    for (int64_t t = 0; t < asked->count; t++)
        if (asked->tasks[t] < 0 || asked->tasks[t] >= net->tasks)
            return 0;
    return 1;
}

static int64_t check(int64_t width, const struct network *net, const struct request *asked,
                     const struct selection *texts, const struct results *results)
{
    const struct kernels *chosen = kernels(width);
    if (!chosen)
        return BAD_WIDTH;
    if (!sizes_hold(net, asked, chosen->lanes))
        return BAD_SIZES;
    int64_t total = 0, last = results->longest;
    for (int64_t i = 0; i < texts->count; i++) {
        int64_t row = texts->rows[i];
        if (row < 0 || row >= texts->many)
            return BAD_TEXTS;
        int64_t start = texts->offsets[row], end = texts->offsets[row + 1];
        if (start < 0 || end > texts->tokens || end <= start || end - start > last)
            return BAD_TEXTS;
        last = end - start; /* the longest are the first */
        total += last;
        if (total > results->room)
            return BAD_TEXTS;
        for (int64_t at = start; at < end; at++)
            if (texts->ids[at] < 0 || texts->ids[at] >= net->vocabulary)
                return BAD_TOKEN;
    }
    return OK;
}

/* Numbers of the scratch memory that the following need, for texts of so many tokens at most. */
EXPORT int64_t glossator_scratch(const struct network *net, int64_t longest)
{
    int64_t widest = 0;
    for (int64_t t = 0; t < net->tasks; t++)
        widest = net->heads[t].width > widest ? net->heads[t].width : widest;
    int64_t score = ROWS * (net->attention + net->pooled + widest) + 5 * GROUP * net->hidden;
    int64_t contribute = 2 * net->hidden * (1 + net->task_width) + longest * net->task_width;
    return score > contribute ? score : contribute;
}

/* The logits of texts, and what `glossator_contribute` needs. */
EXPORT int64_t glossator_score(int64_t width, const struct network *net,
                               const struct request *asked, const struct selection *texts,
                               struct results *results)
{
    int64_t wrong = check(width, net, asked, texts, results);
    if (!wrong)
        kernels(width)->score(net, asked, texts, results);
    return wrong;
}

/* How much each token contributed to the answers of the texts that were scored last. */
EXPORT int64_t glossator_contribute(int64_t width, const struct network *net,
                                    const struct request *asked, const struct selection *texts,
                                    struct results *results)
{
    int64_t wrong = check(width, net, asked, texts, results);
    if (!wrong)
        kernels(width)->contribute(net, asked, texts, results);
    return wrong;
}
