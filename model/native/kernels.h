/* The network's arithmetic, over vectors of LANES floats: each kernels_*.c includes it for one
 * width, after it has defined the operations below. All widths give the same bits: a sum is a chain
 * of fused multiply-adds in the order of its terms, in a lane of its own, and where lanes have to be
 * added up there are always SUMS of them, in a fixed tree.
 *
 * A width defines
 *   vec, LANES, NAME(x)
 *   LOAD(p) STORE(p, v) ALL(p)        ALL: one float of memory in every lane
 *   SET(x) ADD SUB MUL DIV            of IEEE 754, rounded to nearest
 *   FMA(a, b, c)                      a * b + c, rounded once
 *   MAX(a, b) MIN(a, b)               a > b ? a : b and a < b ? a : b, also of NaN
 *   SCALE(v, t)                       v * 2^n for the n in the lowest bits of t
 */
#include <math.h>
#include <string.h>

#include "clock.h"
#include "native.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define PANEL (2 * LANES)
#define SUMS 16

/* 2^x, of x between -125 and 125, and beyond as there; polynomial of Cephes (Moshier 1992). Powers
 * of 2 because the factor is in the weights: log2(e), so that it is e^x of what the network has. */
INLINE vec NAME(power)(vec x, float least, float most)
{
    const vec magic = SET(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    x = MIN(MAX(x, SET(least)), SET(most));
    vec t = ADD(x, magic);
    vec r = SUB(x, SUB(t, magic));
    vec p = SET(1.535336188319500e-4f);
    p = FMA(p, r, SET(1.339887440266574e-3f));
    p = FMA(p, r, SET(9.618437357674640e-3f));
    p = FMA(p, r, SET(5.550332471162809e-2f));
    p = FMA(p, r, SET(2.402264791363012e-1f));
    p = FMA(p, r, SET(6.931472028550421e-1f));
    p = FMA(p, r, SET(1.0f));
    return SCALE(p, t);
}

/* 1 + 2^x, no more than what has a product of two: the denominator of sigmoid(-x / log2(e)). */
INLINE vec NAME(below)(vec x)
{
    return ADD(SET(1.0f), NAME(power)(x, -60.0f, 60.0f));
}

/* tanh(x / (2 log2(e))). */
INLINE vec NAME(tangent)(vec x)
{
    return SUB(SET(1.0f), DIV(SET(2.0f), NAME(below)(x)));
}

/* The sum of SUMS lanes of partial sums, in a fixed tree. */
INLINE float NAME(total)(const vec *parts)
{
    float sums[SUMS];
    for (int i = 0; i < SUMS / LANES; i++)
        STORE(sums + i * LANES, parts[i]);
    for (int width = SUMS / 2; width; width /= 2)
        for (int i = 0; i < width; i++)
            sums[i] += sums[i + width];
    return sums[0];
}

/* sums[r] += x[r] . panel, of `depth` terms, for ROWS rows and the PANEL columns of a panel. */
INLINE void NAME(product)(const float *const *x, int64_t depth, const float *panel,
                          vec sums[ROWS][2])
{
    _Pragma("GCC unroll 4")
    for (int64_t k = 0; k < depth; k++, panel += PANEL) {
        vec first = LOAD(panel), second = LOAD(panel + LANES);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            vec value = ALL(x[r] + k);
            sums[r][0] = FMA(value, first, sums[r][0]);
            sums[r][1] = FMA(value, second, sums[r][1]);
        }
    }
}

/* y[r] = bias + x[r] . weights; see native.h. */
static void NAME(affine)(const float *const *x, int64_t rows, int64_t depth, int64_t width,
                         const float *panels, const float *bias, float *const *y)
{
    for (int64_t first = 0; first < rows; first += ROWS) {
        const float *in[ROWS];
        float *out[ROWS];
        for (int r = 0; r < ROWS; r++) {
            int64_t row = first + r < rows ? first + r : first; /* computed again, the same */
            in[r] = x[row], out[r] = y[row];
        }
        const float *panel = panels;
        for (int64_t at = 0; at < width; at += PANEL, panel += depth * PANEL) {
            vec sums[ROWS][2];
            UNROLL
            for (int r = 0; r < ROWS; r++) {
                sums[r][0] = bias ? LOAD(bias + at) : SET(0.0f);
                sums[r][1] = bias ? LOAD(bias + at + LANES) : SET(0.0f);
            }
            NAME(product)(in, depth, panel, sums);
            UNROLL
            for (int r = 0; r < ROWS; r++) {
                STORE(out[r] + at, sums[r][0]);
                STORE(out[r] + at + LANES, sums[r][1]);
            }
        }
    }
}

/* Texts that step through a recurrence together, the longest first. */
struct NAME(group) {
    int64_t texts;
    int64_t lengths[GROUP];
    const int32_t *ids[GROUP];
    float *states[GROUP]; /* [length, 2H] of a text */
};

/* The place in a text that a direction reads at a step. */
INLINE int64_t NAME(place)(int backward, int64_t length, int64_t step)
{
    return backward ? length - 1 - step : step;
}

/* One direction of a GRU or LSTM.
 *
 * Of each step first the products for all texts, in tiles, then what is done with each unit: so
 * both are long runs of the same operations. `sums` is [GROUP, gates * H], `memory` [GROUP, H].
 */
static void NAME(recur)(const struct network *net, int backward, const struct NAME(group) *group,
                        float *sums, float *memory)
{
    const int64_t hidden = net->hidden, states = 2 * hidden;
    const int64_t row = (net->cell == GRU ? 3 : 4) * hidden;
    /* of a GRU's new state the input is added later, and its product begins with a bias */
    const int64_t joined = net->cell == GRU ? 2 * hidden : row;
    const float *table = net->table + backward * net->vocabulary * row;
    const float *new_bias = net->new_bias + backward * hidden;
    static const float zeros[MAX_UNITS];
    memset(memory, 0, sizeof(float) * GROUP * hidden);
    for (int64_t step = 0; step < group->lengths[0]; step++) {
        const float *before[GROUP], *input[GROUP];
        float *after[GROUP];
        int64_t live = 0;
        for (; live < group->texts && group->lengths[live] > step; live++) {
            int64_t length = group->lengths[live];
            int64_t at = NAME(place)(backward, length, step);
            float *own = group->states[live] + backward * hidden;
            input[live] = table + group->ids[live][at] * row;
            after[live] = own + at * states;
            before[live] = step ? own + NAME(place)(backward, length, step - 1) * states : zeros;
            if (step + 1 < length) {
                int64_t next = NAME(place)(backward, length, step + 1);
                const float *soon = table + group->ids[live][next] * row;
                for (int64_t i = 0; i < row; i += 16)
                    __builtin_prefetch(soon + i);
            }
        }
        int64_t tiles = (live + ROWS - 1) / ROWS * ROWS;
        for (int64_t i = live; i < tiles; i++)
            input[i] = input[0], before[i] = before[0];
        const float *panel = net->recurrent + backward * hidden * row;
        for (int64_t at = 0; at < row; at += PANEL, panel += hidden * PANEL)
            for (int64_t text = 0; text < tiles; text += ROWS) {
                vec tile[ROWS][2];
                UNROLL
                for (int r = 0; r < ROWS; r++) {
                    const float *start = at < joined ? input[text + r] + at : new_bias + (at - joined);
                    tile[r][0] = LOAD(start), tile[r][1] = LOAD(start + LANES);
                }
                NAME(product)(before + text, hidden, panel, tile);
                UNROLL
                for (int r = 0; r < ROWS; r++) {
                    STORE(sums + (text + r) * row + at, tile[r][0]);
                    STORE(sums + (text + r) * row + at + LANES, tile[r][1]);
                }
            }
        /* in two rounds: what waits for nothing is computed meanwhile */
        for (int64_t text = 0; text < live; text++)
            for (int64_t unit = 0; unit < hidden; unit += LANES) {
                float *sum = sums + text * row + unit;
                /* one division for two sigmoids: 1 / a = b / (a * b) */
                vec first = NAME(below)(LOAD(sum)), second = NAME(below)(LOAD(sum + hidden));
                vec inverse = DIV(SET(1.0f), MUL(first, second));
                if (net->cell == GRU) { /* reset and update */
                    vec given = LOAD(input[text] + joined + unit);
                    STORE(sum, FMA(MUL(inverse, second), LOAD(sum + joined), given));
                    STORE(sum + hidden, MUL(inverse, first));
                } else { /* in and keep */
                    float *kept = memory + text * hidden + unit;
                    vec new = NAME(tangent)(LOAD(sum + 2 * hidden));
                    vec cell = MUL(MUL(inverse, second), new);
                    STORE(kept, FMA(MUL(inverse, first), LOAD(kept), cell));
                }
            }
        for (int64_t text = 0; text < live; text++)
            for (int64_t unit = 0; unit < hidden; unit += LANES) {
                const float *sum = sums + text * row + unit;
                if (net->cell == GRU) {
                    vec new = NAME(tangent)(LOAD(sum)), old = LOAD(before[text] + unit);
                    STORE(after[text] + unit, FMA(LOAD(sum + hidden), SUB(old, new), new));
                } else {
                    vec cell = LOAD(memory + text * hidden + unit);
                    vec answer = NAME(tangent)(MUL(cell, SET(2.0f * LOG2_E)));
                    vec out = NAME(below)(LOAD(sum + 3 * hidden));
                    STORE(after[text] + unit, DIV(answer, out));
                }
            }
    }
}

static void NAME(qrnn)(const struct network *net, int backward, const struct NAME(group) *group,
                       float *memory)
{
    const int64_t hidden = net->hidden, row = 3 * hidden;
    const float *own = net->table + backward * net->vocabulary * row;
    const float *neighbour = net->before + backward * net->vocabulary * row;
    for (int64_t text = 0; text < group->texts; text++) {
        int64_t length = group->lengths[text];
        const float *before = net->nothing; /* zeros */
        memset(memory, 0, sizeof(float) * hidden);
        for (int64_t step = 0; step < length; step++) {
            int64_t at = NAME(place)(backward, length, step);
            int64_t id = group->ids[text][at];
            const float *now = own + id * row;
            float *out = group->states[text] + at * 2 * hidden + backward * hidden;
            for (int64_t unit = 0; unit < hidden; unit += LANES) {
                vec gates[3];
                UNROLL
                for (int g = 0; g < 3; g++)
                    gates[g] = ADD(LOAD(now + g * hidden + unit), LOAD(before + g * hidden + unit));
                vec new = NAME(tangent)(gates[0]);
                vec keep = NAME(below)(gates[1]), answer = NAME(below)(gates[2]);
                vec inverse = DIV(SET(1.0f), MUL(keep, answer));
                vec cell = FMA(MUL(inverse, answer), SUB(LOAD(memory + unit), new), new);
                STORE(memory + unit, cell);
                STORE(out + unit, MUL(MUL(inverse, keep), cell));
            }
            before = neighbour + id * row;
        }
    }
}

/* Attention weights of one text's tokens, of all tasks that are asked for: [length, width]. */
static void NAME(attend)(const struct network *net, const struct request *asked,
                         const float *states, int64_t length, float *attention, float *projected)
{
    const int64_t depth = 2 * net->hidden, width = net->task_width;
    for (int64_t first = 0; first < length; first += ROWS) {
        const float *in[ROWS], *inner[ROWS];
        float *energy[ROWS], *out[ROWS];
        for (int r = 0; r < ROWS; r++) {
            int64_t token = first + r < length ? first + r : first;
            in[r] = states + token * depth, energy[r] = attention + token * width;
            inner[r] = out[r] = projected + r * net->attention;
        }
        for (int r = 0; r < ROWS; r++)
            memset(energy[r], 0, sizeof(float) * width);
        for (int64_t p = 0; p < net->projections; p++) {
            if (net->projections > 1 && !asked->wanted[p])
                continue;
            NAME(affine)(in, ROWS, depth, net->attention,
                         net->projection + p * net->attention * depth,
                         net->projection_bias + p * net->attention, out);
            for (int64_t i = 0; i < ROWS * net->attention; i += LANES)
                STORE(projected + i, NAME(tangent)(LOAD(projected + i)));
            const float *panel = net->queries + p * net->attention * width;
            for (int64_t at = 0; at < width; at += PANEL, panel += net->attention * PANEL) {
                vec sums[ROWS][2];
                UNROLL
                for (int r = 0; r < ROWS; r++)
                    sums[r][0] = LOAD(energy[r] + at), sums[r][1] = LOAD(energy[r] + at + LANES);
                NAME(product)(inner, net->attention, panel, sums);
                UNROLL
                for (int r = 0; r < ROWS; r++) {
                    STORE(energy[r] + at, sums[r][0]);
                    STORE(energy[r] + at + LANES, sums[r][1]);
                }
            }
        }
    }
    for (int64_t at = 0; at < net->tasks; at += LANES) {
        vec most = LOAD(attention + at), sum = SET(0.0f);
        for (int64_t token = 1; token < length; token++)
            most = MAX(LOAD(attention + token * width + at), most);
        for (int64_t token = 0; token < length; token++) {
            float *one = attention + token * width + at;
            vec weight = NAME(power)(SUB(LOAD(one), most), -125.0f, 0.0f);
            STORE(one, weight);
            sum = ADD(sum, weight);
        }
        for (int64_t token = 0; token < length; token++) {
            float *one = attention + token * width + at;
            STORE(one, DIV(LOAD(one), sum));
        }
    }
}

#define TOGETHER 4 /* tasks whose attended states are summed in one pass over the tokens */

/* pools: [attended of each asked task, in turns of 2H; then maximum, mean and maybe minimum]. */
static void NAME(pool)(const struct network *net, const struct request *asked, const float *states,
                       int64_t length, const float *attention, float *pools)
{
    const int64_t depth = 2 * net->hidden, width = net->task_width;
    float *rest = pools + asked->count * depth;
    const vec share = SET(1.0f / (float)length);
    for (int64_t unit = 0; unit < depth; unit += LANES) {
        vec most = LOAD(states + unit), least = most, sum = SET(0.0f);
        for (int64_t token = 0; token < length; token++) {
            vec value = LOAD(states + token * depth + unit);
            most = MAX(value, most), least = MIN(value, least), sum = ADD(sum, value);
        }
        STORE(rest + unit, most);
        STORE(rest + depth + unit, MUL(sum, share));
        if (net->minimum)
            STORE(rest + 2 * depth + unit, least);
    }
    for (int64_t first = 0; first < asked->count; first += TOGETHER) {
        int64_t task[TOGETHER];
        for (int i = 0; i < TOGETHER; i++)
            task[i] = asked->tasks[first + i < asked->count ? first + i : first];
        for (int64_t unit = 0; unit < depth; unit += LANES) {
            vec sums[TOGETHER];
            UNROLL
            for (int i = 0; i < TOGETHER; i++)
                sums[i] = SET(0.0f);
            for (int64_t token = 0; token < length; token++) {
                vec value = LOAD(states + token * depth + unit);
                UNROLL
                for (int i = 0; i < TOGETHER; i++)
                    sums[i] = FMA(ALL(attention + token * width + task[i]), value, sums[i]);
            }
            for (int i = 0; i < TOGETHER && first + i < asked->count; i++)
                STORE(pools + (first + i) * depth + unit, sums[i]);
        }
    }
}

/* normal = (x - mean) / deviation of a task's pooled numbers: the attended states, then the rest. */
static void NAME(normalize)(const struct network *net, const float *attended, const float *rest,
                            float *normal, float *moments)
{
    const int64_t depth = 2 * net->hidden, all = net->pooled;
    const float count = (float)(all / net->hidden * net->units);
    vec sums[SUMS / LANES];
    memcpy(normal, attended, sizeof(float) * depth);
    memcpy(normal + depth, rest, sizeof(float) * (all - depth));
    for (int i = 0; i < SUMS / LANES; i++)
        sums[i] = SET(0.0f);
    for (int64_t at = 0; at < all; at += SUMS)
        UNROLL
        for (int i = 0; i < SUMS / LANES; i++)
            sums[i] = ADD(sums[i], LOAD(normal + at + i * LANES));
    const float mean = NAME(total)(sums) / count;
    for (int i = 0; i < SUMS / LANES; i++)
        sums[i] = SET(0.0f);
    for (int64_t at = 0; at < all; at += SUMS)
        UNROLL
        for (int i = 0; i < SUMS / LANES; i++) {
            /* units that only fill up a vector are no part of it */
            vec there = LOAD(net->present + at + i * LANES);
            vec off = MUL(SUB(LOAD(normal + at + i * LANES), SET(mean)), there);
            sums[i] = FMA(off, off, sums[i]);
            STORE(normal + at + i * LANES, off);
        }
    const float inverse = 1.0f / sqrtf(NAME(total)(sums) / count + NORM_EPSILON);
    for (int64_t at = 0; at < all; at += LANES)
        STORE(normal + at, MUL(LOAD(normal + at), SET(inverse)));
    moments[0] = mean, moments[1] = inverse;
}

static void NAME(score)(const struct network *net, const struct request *asked,
                        const struct selection *texts, struct results *results)
{
    const int64_t depth = 2 * net->hidden, pooled = asked->count * depth + net->pooled - depth;
    float *scratch = results->scratch;
    float *projected = scratch;
    float *memory = projected + ROWS * net->attention;
    float *sums = memory + GROUP * net->hidden;
    float *normal = sums + GROUP * 4 * net->hidden;
    float *given = normal + ROWS * net->pooled;
    double unasked[2] = {0}, *seconds = results->seconds ? results->seconds : unasked, clock = 0.0;
    int64_t token = 0;
    for (int64_t first = 0; first < texts->count; first += GROUP) {
        struct NAME(group) group;
        lap(&clock);
        int64_t left = texts->count - first;
        group.texts = left < GROUP ? left : GROUP;
        for (int64_t i = 0; i < group.texts; i++) {
            int64_t row = texts->rows[first + i];
            group.lengths[i] = texts->offsets[row + 1] - texts->offsets[row];
            group.ids[i] = texts->ids + texts->offsets[row];
            group.states[i] = results->states + token * depth;
            token += group.lengths[i];
        }
        for (int backward = 0; backward < 2; backward++) {
            if (net->cell == QRNN)
                NAME(qrnn)(net, backward, &group, memory);
            else
                NAME(recur)(net, backward, &group, sums, memory);
        }
        seconds[RECURRENCE] += lap(&clock);
        for (int64_t i = 0; asked->count && i < group.texts; i++) {
            int64_t at = (group.states[i] - results->states) / depth;
            float *attention = results->attention + at * net->task_width;
            NAME(attend)(net, asked, group.states[i], group.lengths[i], attention, projected);
            NAME(pool)(net, asked, group.states[i], group.lengths[i], attention,
                       results->pools + (first + i) * pooled);
        }
        seconds[ATTENTION] += lap(&clock);
        for (int64_t i = 0; i < group.texts; i += ROWS) {
            int64_t rows = group.texts - i < ROWS ? group.texts - i : ROWS;
            for (int64_t t = 0; t < asked->count; t++) {
                const struct head *head = net->heads + asked->tasks[t];
                const float *in[ROWS];
                float *out[ROWS];
                for (int64_t r = 0; r < rows; r++) {
                    float *pools = results->pools + (first + i + r) * pooled;
                    in[r] = normal + r * net->pooled, out[r] = given + r * head->width;
                    NAME(normalize)(net, pools + t * depth, pools + asked->count * depth,
                                    normal + r * net->pooled,
                                    results->moments + 2 * ((first + i + r) * asked->count + t));
                }
                NAME(affine)(in, rows, net->pooled, head->width, head->weights, head->bias, out);
                for (int64_t r = 0; r < rows; r++)
                    memcpy(results->logits[t] + texts->rows[first + i + r] * head->outputs, out[r],
                           sizeof(float) * head->outputs);
            }
        }
    }
}

static void NAME(contribute)(const struct network *net, const struct request *asked,
                             const struct selection *texts, struct results *results)
{
    const int64_t depth = 2 * net->hidden, pooled = asked->count * depth + net->pooled - depth;
    const int64_t width = net->task_width;
    const float count = (float)(net->pooled / net->hidden * net->units);
    float *towards = results->scratch; /* [depth] by the attended state */
    float *panels = towards + depth;   /* [width / PANEL, depth, PANEL] the same of all tasks */
    float *spoken = panels + depth * width;
    memset(panels, 0, sizeof(float) * depth * width);
    double clock = 0.0;
    lap(&clock);
    int64_t start = 0;
    for (int64_t text = 0; text < texts->count; text++) {
        int64_t row = texts->rows[text], place = texts->offsets[row];
        int64_t length = texts->offsets[row + 1] - place;
        const float *states = results->states + start * depth;
        float *attention = results->attention + start * width;
        for (int64_t t = 0; t < asked->count; t++) {
            const int64_t task = asked->tasks[t];
            const struct head *head = net->heads + task;
            const float *logits = results->logits[t] + row * head->outputs;
            const float *leaning = results->leaning[t] + text * head->outputs;
            const float *attended = results->pools + text * pooled + t * depth;
            const float *moments = results->moments + 2 * (text * asked->count + t);
            /* through the normalization y = (x - mean) * inverse the derivative by x is that by y,
             * less its mean, less y times the mean of y times it; its factor is that of all tokens */
            float along = 0.0f;
            for (int64_t o = 0; o < head->outputs; o++)
                along = fmaf(leaning[o], logits[o] - head->constant[o], along);
            const vec mean = SET(moments[0]), inverse = SET(moments[1]);
            const vec less = SET(-(along / count));
            for (int64_t unit = 0; unit < depth; unit += LANES) {
                vec sum = SET(0.0f);
                for (int64_t o = 0; o < head->outputs; o++)
                    sum = FMA(ALL(leaning + o), LOAD(head->by_attended + o * depth + unit), sum);
                vec standard = MUL(SUB(LOAD(attended + unit), mean), inverse);
                STORE(towards + unit, FMA(standard, less, sum));
            }
            float *column = panels + task / PANEL * depth * PANEL + task % PANEL;
            for (int64_t unit = 0; unit < depth; unit++)
                column[unit * PANEL] = towards[unit];
        }
        float totals[MAX_TASKS] = {0};
        for (int64_t first = 0; first < length; first += ROWS) {
            const float *in[ROWS];
            float *out[ROWS];
            int64_t rows = length - first < ROWS ? length - first : ROWS;
            for (int64_t r = 0; r < rows; r++)
                in[r] = states + (first + r) * depth, out[r] = spoken + (first + r) * width;
            NAME(affine)(in, rows, depth, width, panels, NULL, out);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t at = 0; at < width; at += LANES) {
                    vec weight = LOAD(attention + (first + r) * width + at);
                    vec positive = MAX(MUL(LOAD(out[r] + at), weight), SET(0.0f));
                    STORE(out[r] + at, positive);
                    STORE(totals + at, ADD(LOAD(totals + at), positive));
                }
        }
        for (int64_t t = 0; t < asked->count; t++) {
            const int64_t task = asked->tasks[t];
            const float total = totals[task];
            /* where nothing speaks for the answer, or more than a float holds, there are no shares */
            const int shares = total > 0.0f && total < INFINITY;
            const float *from = shares ? spoken : attention;
            float *weights = results->weights[t] + place;
            for (int64_t token = 0; token < length; token++)
                weights[token] = from[token * width + task] / (shares ? total : 1.0f);
            results->entropy[t][row] = entropy(weights, length);
        }
        start += length;
    }
    if (results->seconds)
        results->seconds[ATTENTION] += lap(&clock);
}

/* So many rounds of ROWS * PANEL multiply-adds that wait for nothing but themselves. */
static float NAME(multiply_adds)(int64_t rounds)
{
    vec sums[ROWS][2], factor = SET(0.999f), more = SET(1e-6f);
    UNROLL
    for (int r = 0; r < ROWS; r++)
        sums[r][0] = SET((float)r), sums[r][1] = SET((float)-r - 0.5f);
    for (int64_t round = 0; round < rounds; round++)
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            sums[r][0] = FMA(sums[r][0], factor, more);
            sums[r][1] = FMA(sums[r][1], factor, more);
        }
    float kept[LANES], result = 0.0f;
    for (int r = 0; r < ROWS; r++) {
        STORE(kept, ADD(sums[r][0], sums[r][1]));
        result += kept[0];
    }
    return result;
}

const struct kernels NAME(kernels) = {
    LANES, NAME(affine), NAME(score), NAME(contribute), NAME(multiply_adds),
};
