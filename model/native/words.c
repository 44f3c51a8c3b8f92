/* Where tokens stand in their texts, the words that they make, and the heaviest of those. */
#include <stdlib.h>
#include <string.h>

#include "text.h"

/* The characters behind each token, as `Spans` has them.
 *
 * content, size, offsets, count, most: UTF-8 of the texts, as `glossator_encode` has them.
 * sizes: [vocabulary] bytes of each token.
 * ids, token_offsets: the tokens of text i are ids[token_offsets[i]] and on; [count + 1].
 * start, end: receive for each token its first character and the one behind its last.
 * left: [count] receives whether a text is left to the reference.
 * Returns 0 or what went wrong.
 */
EXPORT int64_t glossator_spans(const tables *t, const uint8_t *content, int64_t size,
                               const int64_t *offsets, int64_t count, int64_t most,
                               const int32_t *sizes, int64_t vocabulary,
                               const int32_t *ids, int64_t tokens,
                               const int64_t *token_offsets, int64_t *start, int64_t *end,
                               uint8_t *left) {
    normal text = {0};
    int64_t bad = 0;
    for (int64_t row = 0; row < count && !bad; row++) {
        const int64_t first = offsets[row], last = offsets[row + 1];
        const int64_t begin = token_offsets[row], behind = token_offsets[row + 1];
        if (first < 0 || last < first || last > size || begin < 0 || behind < begin ||
            behind > tokens) {
            bad = BAD_INPUT;
            break;
        }
        left[row] = 0;
        if (begin == behind) continue;
        const int found = read_text(t, &text, content + first, content + last, most, ALIGNED);
        if (found == UNKNOWN) {
            left[row] = 1;
            continue;
        }
        bad = found;
        int64_t at = 0;
        for (int64_t i = begin; i < behind && !bad; i++) {
            if (ids[i] < 0 || ids[i] >= vocabulary || sizes[ids[i]] < 1 ||
                sizes[ids[i]] > text.size - at) {
                bad = BAD_INPUT;
                break;
            }
            start[i] = text.start[at];
            at += sizes[ids[i]];
            end[i] = text.end[at - 1];
        }
    }
    free_text(&text);
    return bad;
}

/* Groups tokens into words, as `units` says it.
 *
 * start, end: of each token, as `glossator_spans` gives them.
 * unit_offsets: [count + 1]; unit_start, unit_end: [tokens]; of_token: [tokens].
 * Returns how many units there are, or what went wrong.
 */
EXPORT int64_t glossator_units(const tables *t, const uint8_t *content, int64_t size,
                               const int64_t *offsets, int64_t count,
                               const int64_t *token_offsets, int64_t tokens,
                               const int64_t *start, const int64_t *end,
                               int64_t *unit_offsets, int64_t *unit_start,
                               int64_t *unit_end, int64_t *of_token) {
    uint8_t *kinds = NULL; /* WORD, BLANK or none for each character of a text */
    int64_t room = 0, units = 0, bad = 0;
    unit_offsets[0] = 0;
    for (int64_t row = 0; row < count; row++) {
        const int64_t first = offsets[row], last = offsets[row + 1];
        const int64_t begin = token_offsets[row], behind = token_offsets[row + 1];
        bad = BAD_INPUT;
        if (first < 0 || last < first || last > size || begin < 0 || behind < begin ||
            behind > tokens)
            break;
        int64_t wanted = 0, characters = 0;
        for (int64_t i = begin; i < behind; i++)
            if (end[i] > wanted) wanted = end[i];
        if (wanted > last - first) break;
        if (wanted > room) {
            if (!grow(&kinds, (size_t)wanted * 2)) {
                bad = NO_MEMORY;
                break;
            }
            room = wanted * 2;
        }
        for (const uint8_t *p = content + first, *stop = content + last;
             p < stop && characters < wanted; characters++) {
            const int32_t code = next_code(&p, stop);
            if (code < 0) break;
            kinds[characters] = code < CODES ? t->traits[code] & (WORD | BLANK) : 0;
        }
        if (characters < wanted) break;
        int64_t before = -1; /* the end of the token before, of those that are more than blank */
        int64_t i = begin;
        for (; i < behind; i++) {
            int64_t from = start[i], to = end[i];
            if (from < 0 || from > to) break;
            while (from < to && kinds[from] & BLANK) from++;
            while (from < to && kinds[to - 1] & BLANK) to--;
            of_token[i] = -1;
            if (from == to) continue;
            const int joins = from < before || (from == before && kinds[from - 1] & WORD &&
                                                kinds[from] & WORD);
            if (!joins) {
                unit_start[units] = from;
                unit_end[units++] = to;
            } else if (to > unit_end[units - 1]) {
                unit_end[units - 1] = to;
            }
            of_token[i] = units - 1;
            before = to;
        }
        if (i < behind) break;
        unit_offsets[row + 1] = units;
        bad = 0;
    }
    free(kinds);
    return count && bad ? bad : units;
}

static int ascending(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

enum { FEW = 32 };

/* The heaviest units of each text, as `heaviest` says it.
 *
 * unit_offsets: [count + 1]; unit_start, unit_end: [units]; of_token, weights: [tokens].
 * most: units of a text that are kept.
 * totals: [units] is overwritten.
 * word_offsets: [count + 1]; word_start, word_end, word_weight: [min(units, count * most)].
 * Returns how many words there are, or what went wrong.
 */
EXPORT int64_t glossator_heaviest(const int64_t *unit_offsets, int64_t count,
                                  int64_t units, const int64_t *unit_start,
                                  const int64_t *unit_end, const int64_t *of_token,
                                  const float *weights, int64_t tokens, int64_t most,
                                  double *totals, int64_t *word_offsets,
                                  int32_t *word_start, int32_t *word_end,
                                  float *word_weight) {
    memset(totals, 0, (size_t)units * sizeof *totals);
    for (int64_t i = 0; i < tokens; i++) {
        if (of_token[i] >= units) return BAD_INPUT;
        if (of_token[i] >= 0) totals[of_token[i]] += (double)weights[i];
    }
    uint64_t few[FEW + 1], *many = NULL;
    int64_t room = 0, words = 0;
    word_offsets[0] = 0;
    for (int64_t row = 0; row < count; row++) {
        const int64_t first = unit_offsets[row], last = unit_offsets[row + 1];
        if (first < 0 || last < first || last > units) {
            words = BAD_INPUT;
            break;
        }
        uint64_t *kept = few;
        if (most > FEW) {
            if (last - first > room) {
                room = 2 * (last - first);
                if (!grow(&many, (size_t)room * sizeof *many)) {
                    words = NO_MEMORY;
                    break;
                }
            }
            kept = many;
        }
        int64_t found = 0;
        for (int64_t unit = first; unit < last; unit++) {
            const float weight = (float)totals[unit];
            uint32_t bits; /* of a positive float they grow with it */
            if (!(weight > 0)) continue;
            memcpy(&bits, &weight, sizeof bits);
            const uint64_t key = (uint64_t)~bits << 32 | (uint64_t)(unit - first);
            if (most > FEW) {
                kept[found++] = key;
                continue;
            }
            if (found == most && (!most || key > kept[most - 1])) continue;
            int64_t at = found < most ? found++ : most - 1;
            for (; at && kept[at - 1] > key; at--) kept[at] = kept[at - 1];
            kept[at] = key;
        }
        if (most > FEW && found) {
            qsort(kept, (size_t)found, sizeof *kept, ascending);
            if (found > most) found = most;
        }
        for (int64_t i = 0; i < found; i++, words++) {
            const int64_t unit = first + (int64_t)(uint32_t)kept[i];
            word_start[words] = (int32_t)unit_start[unit];
            word_end[words] = (int32_t)unit_end[unit];
            word_weight[words] = (float)totals[unit];
        }
        word_offsets[row + 1] = words;
    }
    free(many);
    return words;
}
