/* Scores the texts of a file with the native library on another processor; see test_native_arm.py.
 *
 * The file: how many arrays there are, then the bytes of each and their number before; the arrays are
 * sizes, those of struct network, then four of each head, rows, ids and offsets, and leanings.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../model/native/native.h"

int64_t glossator_score(int64_t, const struct network *, const struct request *,
                        const struct selection *, struct results *);
int64_t glossator_contribute(int64_t, const struct network *, const struct request *,
                             const struct selection *, struct results *);
int64_t glossator_scratch(const struct network *, int64_t);

static void *read_array(FILE *file, int64_t *bytes)
{
    if (fread(bytes, sizeof *bytes, 1, file) != 1)
        exit(2);
    void *array = malloc(*bytes + 1);
    if (!array || fread(array, 1, *bytes, file) != (size_t)*bytes)
        exit(2);
    return array;
}

int main(int count, char **arguments)
{
    FILE *in = fopen(arguments[1], "rb"), *out = fopen(arguments[2], "wb");
    int64_t bytes, width = atoi(arguments[3]);
    if (count != 4 || !in || !out)
        return 2;
    struct network net;
    int64_t *sizes = read_array(in, &bytes);
    memcpy(&net, sizes, 10 * sizeof *sizes);
    const void **places[] = {
        (const void **)&net.table, (const void **)&net.before, (const void **)&net.nothing,
        (const void **)&net.recurrent, (const void **)&net.new_bias,
        (const void **)&net.projection, (const void **)&net.projection_bias,
        (const void **)&net.queries, (const void **)&net.present,
    };
    for (int i = 0; i < 9; i++)
        *places[i] = read_array(in, &bytes);
    struct head heads[MAX_TASKS];
    int64_t asked[MAX_TASKS];
    uint8_t wanted[MAX_TASKS];
    for (int64_t t = 0; t < net.tasks; t++) {
        heads[t].weights = read_array(in, &bytes);
        heads[t].bias = read_array(in, &bytes);
        heads[t].width = bytes / 4;
        heads[t].constant = read_array(in, &bytes);
        heads[t].outputs = bytes / 4;
        heads[t].by_attended = read_array(in, &bytes);
        asked[t] = t, wanted[t] = 1;
    }
    net.heads = heads;
    struct request request = {net.tasks, asked, wanted};
    struct selection texts;
    texts.rows = read_array(in, &bytes);
    texts.many = texts.count = bytes / 8;
    texts.ids = read_array(in, &bytes);
    texts.tokens = bytes / 4;
    texts.offsets = read_array(in, &bytes);
    float *logits[MAX_TASKS], *weights[MAX_TASKS], *entropies[MAX_TASKS];
    const float *leaning[MAX_TASKS];
    for (int64_t t = 0; t < net.tasks; t++) {
        leaning[t] = read_array(in, &bytes);
        logits[t] = malloc(bytes);
        weights[t] = malloc(texts.tokens * 4);
        entropies[t] = malloc(texts.many * 4);
    }
    const int64_t pools = (net.tasks + 3) * 2 * net.hidden;
    struct results results = {
        texts.tokens, texts.tokens, malloc(texts.tokens * 8 * net.hidden),
        malloc(texts.tokens * 4 * net.task_width), malloc(texts.many * 4 * pools),
        malloc(texts.many * 8 * net.tasks), malloc(4 * glossator_scratch(&net, texts.tokens)),
        logits, leaning, weights, entropies,
    };
    if (glossator_score(width, &net, &request, &texts, &results) ||
        glossator_contribute(width, &net, &request, &texts, &results))
        return 3;
    for (int64_t t = 0; t < net.tasks; t++) {
        fwrite(logits[t], 4, texts.many * heads[t].outputs, out);
        fwrite(weights[t], 4, texts.tokens, out);
        fwrite(entropies[t], 4, texts.many, out);
    }
    return fclose(out) != 0;
}
