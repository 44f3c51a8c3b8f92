/* Byte-level BPE (Radford et al. 2019, GPT-2) over NFKC: the ids of the reference, many times faster.
 *
 * What stands between two cuts of the pre-tokenizer is encoded on its own, and short pieces are
 * remembered: in a table of fixed size, one to a thread, where a new piece replaces an old one.
 * Where a script has no spaces, pieces are clauses, of which few come again. They are cut further:
 * between two characters that no token has side by side, nothing is ever merged.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "text.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "little-endian machines only"
#endif

#if defined(__GNUC__)
#define PREFETCH(place) __builtin_prefetch(place)
#else
#define PREFETCH(place) ((void)(place))
#endif

enum {
    KEY = 23,         /* bytes of a piece that is remembered, at most */
    KEPT = 9,         /* and its tokens */
    AHEAD = 16,       /* pieces whose slots are fetched while others are encoded */
    NEIGHBOURS = 1 << 18,
    BEFORE = 1, AFTER = 2,
    SLOTS = 1 << 15,  /* pieces that are remembered: 2 MiB */
    SCANNED = 96,     /* bytes of a piece whose best merge is found by looking at all */
};

typedef struct {
    uint64_t key[3]; /* bytes of the piece, zeros, and last its length */
    int32_t count;
    int32_t ids[KEPT];
} slot;

typedef struct {
    tables t;
    int32_t byte_ids[256];
    int shift;       /* 64 - log2 of the size of the table of merges */
    uint64_t *pairs; /* left, right and rank of each merge, where a hash puts it; or EMPTY */
    int32_t *made;   /* [rank] what it makes */
    uint64_t neighbours[NEIGHBOURS / 64]; /* bits, by a hash of two characters that a token has so */
    uint8_t *joins;  /* [CODES] whether a character may be in a token with any BEFORE or AFTER it */
} bpe;

/* What one thread works with. */
typedef struct {
    slot *slots;
    normal text;
    int32_t *symbols; /* [room] of a long piece */
    int32_t *before, *behind;
    uint64_t *heap; /* [3 * room] */
    int64_t room;
} worker;

enum { ID_BITS = 21, RANK_BITS = 64 - 2 * ID_BITS, NO_RANK = INT32_MAX };
static const uint64_t EMPTY = ~(uint64_t)0, SPREAD = 0x9E3779B97F4A7C15u;

static inline uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << ID_BITS | (uint32_t)right;
}

/* When two tokens are merged; NO_RANK: never. */
static inline int32_t find_rank(const bpe *b, int32_t left, int32_t right) {
    const uint64_t key = pair_key(left, right), mask = ~(uint64_t)0 >> b->shift;
    for (uint64_t i = key * SPREAD >> b->shift;; i = (i + 1) & mask) {
        const uint64_t pair = b->pairs[i];
        if (pair >> RANK_BITS == key) return (int32_t)(pair & (((uint64_t)1 << RANK_BITS) - 1));
        if (pair == EMPTY) return NO_RANK;
    }
}

static inline uint64_t neighbour(int32_t left, int32_t right) {
    return pair_key(left, right) * SPREAD >> 46; /* below NEIGHBOURS */
}

static inline int may_join(const bpe *b, int32_t left, int32_t right) {
    const uint64_t bit = neighbour(left, right);
    return (b->neighbours[bit / 64] >> bit % 64 & 1) | (b->joins[left] & AFTER) |
           (b->joins[right] & BEFORE);
}

/* Notes which characters a token has side by side. It may begin or end within a character: then any
 * that has these bytes may be meant. */
static void note_neighbours(bpe *b, const uint8_t *p, const uint8_t *end) {
    enum { NONE = -1, PART = -2 };
    int32_t before = NONE;
    for (; p < end && (*p & 0xC0) == 0x80; p++) before = PART;
    while (p < end) {
        const uint8_t *first = p;
        const int32_t code = next_code(&p, end);
        if (code >= CODES) return; /* never encoded here, as what is no UTF-8 */
        if (code >= 0) {
            const uint64_t bit = before >= 0 ? neighbour(before, code) : 0;
            if (before >= 0) b->neighbours[bit / 64] |= (uint64_t)1 << bit % 64;
            if (before == PART) b->joins[code] |= BEFORE;
            before = code;
            continue;
        }
        if (before >= 0) b->joins[before] |= AFTER;
        if (before == PART) {
            const int more = *first >= 0xF0 ? 3 : *first >= 0xE0 ? 2 : 1;
            int64_t least = *first & (0x3F >> more), wide = 1;
            for (int i = 1; i <= more; i++) {
                least = least << 6 | (first + i < end ? first[i] & 0x3F : 0);
                wide *= first + i < end ? 1 : 64;
            }
            for (int64_t c = least; c < least + wide && c < CODES; c++) b->joins[c] |= BEFORE;
        }
        return;
    }
}

EXPORT void glossator_bpe_free(bpe *b) {
    if (!b) return;
    free(b->pairs);
    free(b->made);
    free(b->joins);
    free(b);
}

/* content, token_offsets: the bytes of each of the `size` tokens, [size + 1].
 * byte_ids: [256] the token of each byte.
 * left, right, made: [count] tokens, the first merge to be applied first.
 * The tables of `t` stay the caller's and must live as long. NULL where there is no memory, or too
 * many tokens, or an id or an offset is none. */
EXPORT bpe *glossator_bpe_new(const tables *t, const uint8_t *content,
                              int64_t content_size, const int64_t *token_offsets,
                              int64_t size, const int32_t *byte_ids, const int32_t *left,
                              const int32_t *right, const int32_t *made, int64_t count) {
    if (size >= 1 << ID_BITS || count >= 1 << RANK_BITS) return NULL;
    int bits = 4;
    while (1 << bits < 2 * count) bits++;
    const uint64_t slots = (uint64_t)1 << bits;
    bpe *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->pairs = malloc(slots * sizeof *b->pairs);
    b->made = malloc(((size_t)count + 1) * sizeof *b->made);
    b->joins = calloc(CODES, 1);
    if (!b->pairs || !b->made || !b->joins) goto failed;
    b->t = *t;
    b->shift = 64 - bits;
    for (uint64_t i = 0; i < slots; i++) b->pairs[i] = EMPTY;
    for (int i = 0; i < 256; i++) {
        b->byte_ids[i] = byte_ids[i];
        if (byte_ids[i] < 0 || byte_ids[i] >= size) goto failed;
    }
    for (int64_t rank = 0; rank < count; rank++) {
        const int32_t l = left[rank], r = right[rank], m = made[rank];
        if (l < 0 || r < 0 || m < 0 || l >= size || r >= size || m >= size) goto failed;
        const uint64_t key = pair_key(l, r);
        uint64_t i = key * SPREAD >> b->shift;
        while (b->pairs[i] != EMPTY) i = (i + 1) & (slots - 1);
        b->pairs[i] = key << RANK_BITS | (uint64_t)rank;
        b->made[rank] = m;
    }
    for (int64_t token = 0; token < size; token++) {
        const int64_t first = token_offsets[token], last = token_offsets[token + 1];
        if (first < 0 || last < first || last > content_size) goto failed;
        note_neighbours(b, content + first, content + last);
    }
    return b;
failed:
    glossator_bpe_free(b);
    return NULL;
}

EXPORT void glossator_worker_free(worker *w) {
    if (!w) return;
    free(w->slots);
    free_text(&w->text);
    free(w->symbols);
    free(w->before);
    free(w->behind);
    free(w->heap);
    free(w);
}

EXPORT worker *glossator_worker_new(void) {
    worker *w = calloc(1, sizeof *w);
    if (w && (w->slots = calloc(SLOTS, sizeof *w->slots))) return w;
    glossator_worker_free(w);
    return NULL;
}

/* The end of the piece that begins at byte i, as the pre-tokenizer cuts:
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static inline int64_t piece_end(const normal *n, int64_t i) {
    const uint8_t *bytes = n->bytes, *kinds = n->kinds;
    if (bytes[i] == '\'') {
        const uint8_t first = bytes[i + 1];
        if (first == 's' || first == 't' || first == 'm' || first == 'd') return i + 2;
        const uint8_t second = first ? bytes[i + 2] : 0;
        if ((first == 'r' || first == 'v') && second == 'e') return i + 3;
        if (first == 'l' && second == 'l') return i + 3;
    }
    int64_t end = i;
    if (bytes[i] == ' ' && kinds[i + 1] <= NUMBER) end++;
    const uint8_t kind = kinds[end];
    do end++;
    while (kinds[end] == kind);
    if (kind != SPACE || end == n->size) return end;
    /* the last of several is left to what follows */
    int64_t last = end - 1;
    while ((bytes[last] & 0xC0) == 0x80) last--;
    return last > i ? last : end;
}

/* The end of the part of a piece that is encoded on its own. */
static inline int64_t part_end(const bpe *b, const uint8_t *bytes, int64_t i, int64_t end) {
    if (end - i <= KEY && bytes[i + (bytes[i] == ' ')] < 0xE0) return end;
    const uint8_t *p = bytes + i;
    for (int32_t left = next_code(&p, bytes + end), right; p < bytes + end; left = right) {
        const uint8_t *const cut = p;
        right = next_code(&p, bytes + end);
        if (!may_join(b, left, right)) return cut - bytes;
    }
    return end;
}

/* Merges a piece of at most SCANNED bytes into `symbols`; how many there are. */
static int32_t merge_short(const bpe *b, const uint8_t *piece, int32_t count, int32_t *symbols) {
    int32_t ranks[SCANNED]; /* of each symbol with the next one */
    for (int32_t i = 0; i < count; i++) symbols[i] = b->byte_ids[piece[i]];
    for (int32_t i = 0; i + 1 < count; i++) ranks[i] = find_rank(b, symbols[i], symbols[i + 1]);
    while (count > 1) {
        int32_t least = NO_RANK, best = 0;
        for (int32_t i = 0; i + 1 < count; i++) least = ranks[i] < least ? ranks[i] : least;
        if (least == NO_RANK) break;
        while (ranks[best] != least) best++;
        symbols[best] = b->made[least];
        count--;
        for (int32_t i = best + 1; i < count; i++) symbols[i] = symbols[i + 1];
        for (int32_t i = best; i + 1 < count; i++) ranks[i] = ranks[i + 1];
        if (best) ranks[best - 1] = find_rank(b, symbols[best - 1], symbols[best]);
        if (best + 1 < count) ranks[best] = find_rank(b, symbols[best], symbols[best + 1]);
    }
    return count;
}

static void push(uint64_t *heap, int64_t *size, uint64_t item) {
    int64_t i = (*size)++;
    for (; i && heap[(i - 1) / 2] > item; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
}

static uint64_t pop(uint64_t *heap, int64_t *size) {
    const uint64_t least = heap[0], item = heap[--*size];
    int64_t i = 0;
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= *size) break;
        if (child + 1 < *size && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= item) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = item;
    return least;
}

/* The same for a piece of any length, in the worker's `symbols`; NO_MEMORY if there is none. */
static int64_t merge_long(const bpe *b, worker *w, const uint8_t *piece, int64_t count) {
    if (count > w->room) {
        const size_t places = (size_t)count * sizeof *w->symbols;
        if (!grow(&w->symbols, places) || !grow(&w->before, places) || !grow(&w->behind, places) ||
            !grow(&w->heap, (size_t)count * 3 * sizeof *w->heap))
            return NO_MEMORY;
        w->room = count;
    }
    int32_t *symbols = w->symbols, *before = w->before, *behind = w->behind;
    int64_t waiting = 0; /* merges by rank and place, at most one a pair and two a merge */
    for (int64_t i = 0; i < count; i++) {
        symbols[i] = b->byte_ids[piece[i]];
        before[i] = (int32_t)i - 1;
        behind[i] = (int32_t)i + 1;
    }
    for (int64_t i = 0; i + 1 < count; i++) {
        const int32_t rank = find_rank(b, symbols[i], symbols[i + 1]);
        if (rank != NO_RANK) push(w->heap, &waiting, (uint64_t)rank << 32 | (uint64_t)i);
    }
    while (waiting) {
        const uint64_t item = pop(w->heap, &waiting);
        const int32_t at = (int32_t)(uint32_t)item, next = behind[at];
        if (symbols[at] < 0 || next >= count) continue; /* melted meanwhile */
        const int32_t rank = (int32_t)(item >> 32);
        if (find_rank(b, symbols[at], symbols[next]) != rank) continue; /* another pair meanwhile */
        symbols[at] = b->made[rank];
        symbols[next] = -1;
        behind[at] = behind[next];
        if (behind[at] < count) before[behind[at]] = at;
        const int32_t lefts[] = {before[at], at};
        for (int i = 0; i < 2; i++) {
            const int32_t left = lefts[i];
            if (left < 0 || behind[left] >= count) continue;
            const int32_t more = find_rank(b, symbols[left], symbols[behind[left]]);
            if (more != NO_RANK) push(w->heap, &waiting, (uint64_t)more << 32 | (uint32_t)left);
        }
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++)
        if (symbols[i] >= 0) symbols[kept++] = symbols[i];
    return kept;
}

/* A piece that waits to be encoded, and where its tokens may be remembered. */
typedef struct {
    const uint8_t *bytes;
    int64_t size;
    uint64_t key[3]; /* with the slot, if it is short enough */
    slot *place;
} part;

static inline void wait_for(worker *w, part *p, const uint8_t *bytes, int64_t size) {
    p->bytes = bytes;
    p->size = size;
    if (size > KEY || size == 1) return;
    memcpy(p->key, bytes, sizeof p->key);
    for (int i = 0; i < 3; i++) {
        const int64_t own = size - 8 * i; /* bytes in this word of the key */
        if (own < 8) p->key[i] = own > 0 ? p->key[i] & (~(uint64_t)0 >> (64 - 8 * own)) : 0;
    }
    p->key[2] |= (uint64_t)size << 56;
    const uint64_t hash = ((p->key[2] * SPREAD ^ p->key[1]) * SPREAD ^ p->key[0]) * SPREAD;
    p->place = w->slots + (hash >> 40) % SLOTS;
    PREFETCH(p->place);
}

/* Writes the first `most` tokens of a piece; how many it has in all, or NO_MEMORY. */
static int64_t encode_part(const bpe *b, worker *w, const part *p, int32_t *out, int64_t most) {
    int32_t symbols[SCANNED];
    const int32_t *from = symbols;
    int64_t count;
    if (p->size == 1) {
        out[0] = b->byte_ids[*p->bytes];
        return 1;
    }
    if (p->size > SCANNED) {
        count = merge_long(b, w, p->bytes, p->size);
        from = w->symbols;
    } else if (p->size > KEY) {
        count = merge_short(b, p->bytes, (int32_t)p->size, symbols);
    } else if (!memcmp(p->place->key, p->key, sizeof p->key)) {
        count = p->place->count;
        from = p->place->ids;
    } else {
        count = merge_short(b, p->bytes, (int32_t)p->size, symbols);
        if (count <= KEPT) {
            memcpy(p->place->key, p->key, sizeof p->key);
            memcpy(p->place->ids, symbols, (size_t)count * sizeof *symbols);
            p->place->count = (int32_t)count;
        }
    }
    for (int64_t i = 0; i < count && i < most; i++) out[i] = from[i];
    return count;
}

/* Encodes texts until there may be no room for the next one.
 *
 * content, offsets: UTF-8 of `count` texts, `size` bytes; text i has the bytes offsets[i] to
 *     offsets[i + 1].
 * most_characters, most_tokens: of a text.
 * normalized: whether the texts are in NFKC.
 * ids: [room] receives the tokens, one text after the other.
 * lengths, left: [count] receive how many tokens a text has, and whether it is left to the reference.
 * normalizing: the seconds spent on the normal form are added to it.
 * Returns how many texts were encoded, or what went wrong.
 */
EXPORT int64_t glossator_encode(const bpe *b, worker *w, const uint8_t *content,
                                int64_t size, const int64_t *offsets, int64_t count,
                                int64_t most_characters, int64_t most_tokens,
                                int32_t normalized, int32_t *ids, int64_t room,
                                int64_t *lengths, uint8_t *left, double *normalizing) {
    int64_t used = 0;
    double clock = 0.0;
    for (int64_t row = 0; row < count; row++) {
        const int64_t first = offsets[row], last = offsets[row + 1];
        if (first < 0 || last < first || last > size) return BAD_INPUT;
        const int how = normalized ? NORMALIZED : 0;
        lap(&clock);
        const int bad = read_text(&b->t, &w->text, content + first, content + last, most_characters, how);
        *normalizing += lap(&clock);
        if (bad == NO_MEMORY) return bad;
        lengths[row] = 0;
        left[row] = bad == UNKNOWN;
        if (bad) continue;
        const int64_t most = most_tokens < room - used ? most_tokens : room - used;
        int64_t have = 0;
        for (int64_t at = 0, piece = 0; at < w->text.size && have <= most;) {
            part parts[AHEAD];
            int32_t waiting = 0;
            while (waiting < AHEAD && at < w->text.size) {
                if (at == piece) piece = piece_end(&w->text, at);
                const int64_t end = part_end(b, w->text.bytes, at, piece);
                wait_for(w, parts + waiting++, w->text.bytes + at, end - at);
                at = end;
            }
            for (int32_t i = 0; i < waiting && have <= most; i++) {
                if (have == most) {
                    have++; /* there is one more, whichever */
                    break;
                }
                int32_t *out = ids + used + have;
                const int64_t more = encode_part(b, w, parts + i, out, most - have);
                if (more < 0) return more;
                have += more;
            }
        }
        if (have > most) {
            if (most < most_tokens) return row; /* no room for the rest of it */
            have = most;
        }
        lengths[row] = have;
        used += have;
    }
    return count;
}
