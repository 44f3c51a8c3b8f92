/* The n-gram expert's sums, as ngrams.py describes them: integers, so in whatever order. */
#include <string.h>

#include "native.h"

#define CHARACTERS 4
#define TOKENS 2
#define LOWERED 0x3000
#define REPLACEMENT 0xFFFD

static const uint32_t seeds[] = {0x243F6A88u, 0x85A308D3u};

static inline uint32_t mixed(uint32_t hash, uint32_t symbol)
{
    uint32_t x = (hash ^ symbol) * 0x9E3779B1u;
    return x ^ (x >> 15);
}

static inline void count(const struct expert *expert, uint32_t hash, int32_t *restrict sums)
{
    uint32_t bucket = hash >> (32 - expert->bits);
    if (expert->tags[bucket] != (uint8_t)hash)
        return;
    const int8_t *restrict row = expert->table + bucket * expert->columns;
    for (int64_t i = 0; i < expert->columns; i++)
        sums[i] += row[i];
    sums[expert->columns]++;
}

/* Counts the n-grams that end with a symbol, and keeps their hashes: latest[n] is that of the last n
 * symbols, of `seen` in all. */
static inline void symbol(const struct expert *expert, uint32_t *latest, int longest, int64_t seen,
                          uint32_t seed, uint32_t value, int32_t *sums)
{
    for (int n = seen < longest ? (int)seen : longest; n > 1; n--) {
        latest[n] = mixed(latest[n - 1], value);
        count(expert, latest[n], sums);
    }
    latest[1] = mixed(seed, value);
    count(expert, latest[1], sums);
}

struct character {
    uint32_t code;
    int size, needed; /* bytes that were read, and that it has */
};

static inline uint32_t lowered(const struct expert *expert, const struct character *one)
{
    if (one->size < one->needed)
        return REPLACEMENT;
    return one->code < LOWERED ? expert->lower[one->code] : one->code;
}

/* One text's sums: of each column, and how many n-grams are known. */
static void text_sums(const struct expert *expert, const int32_t *ids, int64_t tokens,
                      int32_t *sums)
{
    uint32_t characters[CHARACTERS + 1] = {0}, latest[TOKENS + 1] = {0};
    struct character one = {0, 0, 0};
    int64_t seen = 0;
    for (int64_t token = 0; token < tokens; token++) {
        const int64_t id = ids[token];
        symbol(expert, latest, TOKENS, token + 1, seeds[1], (uint32_t)id, sums);
        for (int64_t at = expert->starts[id]; at < expert->starts[id + 1]; at++) {
            const uint8_t byte = expert->content[at];
            if ((byte & 0xC0) == 0x80) {
                if (one.size++ < one.needed)
                    one.code = one.code << 6 | (byte & 0x3F);
                continue;
            }
            if (one.size)
                symbol(expert, characters, CHARACTERS, ++seen, seeds[0], lowered(expert, &one),
                       sums);
            one.size = 1;
            one.needed = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0);
            one.code = byte & (one.needed == 1   ? 0xFF
                               : one.needed == 2 ? 0x1F
                               : one.needed == 3 ? 0x0F
                                                 : 0x07);
        }
    }
    if (one.size)
        symbol(expert, characters, CHARACTERS, ++seen, seeds[0], lowered(expert, &one), sums);
}

/* The sums of texts: [count, columns + 1], the last how many n-grams are known. */
EXPORT int64_t glossator_ngrams(const struct expert *expert, int64_t texts, const int32_t *ids,
                                int64_t tokens, const int64_t *offsets, int32_t *sums)
{
    if (expert->bits < 1 || expert->bits > 31 || expert->columns < 0 || expert->vocabulary < 1)
        return BAD_SIZES;
    for (int64_t id = 0; id < expert->vocabulary; id++)
        if (expert->starts[id] < 0 || expert->starts[id] > expert->starts[id + 1])
            return BAD_SIZES;
    for (int64_t text = 0; text < texts; text++)
        if (offsets[text] < 0 || offsets[text] > offsets[text + 1] || offsets[text + 1] > tokens)
            return BAD_TEXTS;
    for (int64_t at = 0; at < tokens; at++)
        if (ids[at] < 0 || ids[at] >= expert->vocabulary)
            return BAD_TOKEN;
    memset(sums, 0, sizeof(int32_t) * (size_t)(texts * (expert->columns + 1)));
    for (int64_t text = 0; text < texts; text++)
        text_sums(expert, ids + offsets[text], offsets[text + 1] - offsets[text],
                  sums + text * (expert->columns + 1));
    return OK;
}
