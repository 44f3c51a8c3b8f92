#include "text.h"

#include <stdlib.h>
#include <string.h>

int grow(void *block, size_t bytes) {
    void **at = block, *more = realloc(*at, bytes);
    if (more) *at = more;
    return more != NULL;
}

void free_text(normal *n) {
    free(n->bytes);
    free(n->kinds);
    free(n->start);
    free(n->end);
}

static int reserve(normal *n, int64_t size) {
    if (n->bytes && size <= n->room) return 1;
    size += size / 2 + 4096;
    const size_t places = (size_t)size * sizeof *n->start;
    if (!grow(&n->bytes, (size_t)size + PADDING) || !grow(&n->kinds, (size_t)size + PADDING) ||
        !grow(&n->start, places) || !grow(&n->end, places))
        return 0;
    n->room = size;
    return 1;
}

/* What two characters compose to; 0: they do not. */
static uint32_t composed(const tables *t, uint32_t first, uint32_t second) {
    if (first >= 0x1100 && first < 0x1113 && second >= 0x1161 && second < 0x1176) /* Hangul */
        return 0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28;
    if (first >= 0xAC00 && first < 0xD7A4 && (first - 0xAC00) % 28 == 0 && second > 0x11A7 &&
        second < 0x11C3)
        return first + second - 0x11A7;
    const uint64_t key = (uint64_t)first << 32 | second;
    int32_t low = 0;
    for (int32_t step = PAIRS / 2; step; step /= 2)
        if (t->pairs[low + step] <= key) low += step;
    return t->pairs[low] == key ? t->pairs_made[low] : 0;
}

enum {
    PIECE = 64, /* characters of a piece that is composed here: ordering is quadratic */
    APART = 18, /* characters that one may be taken apart into */
};

/* Takes the decomposition of a character; how many it has, or UNKNOWN. */
static int32_t take_apart(const tables *t, uint32_t code, uint32_t *out) {
    if (code >= 0xAC00 && code < 0xD7A4) {
        const uint32_t syllable = code - 0xAC00, last = syllable % 28;
        out[0] = 0x1100 + syllable / 588;
        out[1] = 0x1161 + syllable % 588 / 28;
        out[2] = 0x11A7 + last;
        return last ? 3 : 2;
    }
    const uint16_t place = t->apart[code];
    if (place == NOT_APART) return UNKNOWN;
    if (!place) {
        out[0] = code;
        return 1;
    }
    const int32_t first = t->apart_offsets[place - 1], count = t->apart_offsets[place] - first;
    if (count > APART) return UNKNOWN;
    memcpy(out, t->apart_content + first, (size_t)count * sizeof *out);
    return count;
}

/* The NFKC of a piece of `count` characters, in `out` of PIECE * APART; how many it has. */
static int32_t compose(const tables *t, const uint32_t *codes, int32_t count, uint32_t *out) {
    int32_t size = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t more = take_apart(t, codes[i], out + size);
        if (more < 0) return more;
        for (int32_t end = size + more; size < end; size++) { /* marks go where they belong */
            const uint32_t code = out[size];
            const uint8_t class = t->combining[code];
            int32_t at = size;
            for (; class && at && t->combining[out[at - 1]] > class; at--) out[at] = out[at - 1];
            out[at] = code;
        }
    }
    int32_t starter = -1, kept = 0;
    uint8_t last = 0; /* class of the last one kept behind the starter */
    for (int32_t i = 0; i < size; i++) {
        const uint8_t class = t->combining[out[i]];
        if (starter >= 0 && (kept == starter + 1 || last < class)) {
            const uint32_t made = composed(t, out[starter], out[i]);
            if (made) {
                out[starter] = made;
                continue;
            }
        }
        if (!class) starter = kept;
        last = class;
        out[kept++] = out[i];
    }
    return kept;
}

/* Says that the bytes from `first` on are made of the characters from `start` to `end`. */
static void align(normal *n, int64_t first, int64_t size, int32_t start, int32_t end) {
    for (int64_t i = first; i < size; i++) {
        n->start[i] = start;
        n->end[i] = end;
    }
}

/* Whether characters pass the quick check behind one of class `*last`, which becomes theirs. */
static inline int passes(const tables *t, const uint32_t *codes, int32_t count, uint8_t *last) {
    for (int32_t i = 0; i < count; i++) {
        const uint8_t class = t->combining[codes[i]];
        if (!(t->traits[codes[i]] & PLAIN) || (class && class < *last)) return 0;
        *last = class;
    }
    return 1;
}

int read_text(const tables *t, normal *n, const uint8_t *p, const uint8_t *end, int64_t most, int how) {
    const uint8_t *traits = t->traits, *last = end;
    if ((end - p) / 4 > most) end = p + 4 * most; /* more bytes are not read */
    if (!reserve(n, end - p)) return NO_MEMORY;
    int64_t size = 0;
    int32_t place = 0; /* of the next character */
    uint8_t class = 0; /* of the character before */
    /* The piece that is read, where it begins in the text and in bytes and characters of NFKC. */
    const uint8_t *piece = p;
    int64_t piece_size = 0;
    int32_t piece_place = 0;
    int changed = 0; /* whether it is not its own NFKC */
    while (p < end && place < most) {
        if (*p < 0x80 && !(how & ALIGNED)) { /* ASCII is the same everywhere */
            piece = p;
            piece_size = size;
            piece_place = place++;
            n->kinds[size] = traits[*p] & KIND;
            n->bytes[size++] = *p++;
            class = 0;
            continue;
        }
        const uint8_t *const at = p;
        const int32_t code = next_code(&p, last);
        if (code < 0 || code >= CODES) return UNKNOWN;
        if (traits[code] & BEGINS) {
            if (changed && how & ALIGNED) align(n, piece_size, size, piece_place, place);
            piece = at;
            piece_size = size;
            piece_place = place;
            changed = 0;
        }
        uint32_t codes[PIECE], whole[PIECE * APART];
        const uint32_t *made = codes;
        int32_t count = 1, first = place++;
        codes[0] = (uint32_t)code;
        if (!(how & NORMALIZED)) {
            if (traits[code] & MAPPED) {
                const int32_t *offsets = t->mapped_offsets + t->mapping[code];
                made = t->mapped_content + offsets[0];
                count = offsets[1] - offsets[0];
                changed = 1;
            }
            if (!passes(t, made, count, &class)) {
                int32_t read = 0;
                for (p = piece; p < end && piece_place + read < most; read++) {
                    const uint8_t *next = p;
                    const int32_t more = next_code(&next, last);
                    if (more < 0 || more >= CODES || (read && traits[more] & BEGINS)) break;
                    if (read == PIECE) return UNKNOWN;
                    codes[read] = (uint32_t)more;
                    p = next;
                }
                count = compose(t, codes, read, whole);
                if (count < 0) return UNKNOWN;
                made = whole; /* what comes next begins a piece, whatever the class before it */
                changed = count != read || memcmp(codes, whole, (size_t)count * sizeof *codes);
                size = piece_size;
                first = piece_place;
                place = piece_place + read;
            }
        }
        /* room for this, and for what is not read yet */
        if (count > 1 && !reserve(n, size + 4 * count + (end > p ? end - p : 0))) return NO_MEMORY;
        for (int32_t i = 0; i < count; i++) {
            const uint8_t own = traits[made[i]];
            if (!(own & SURE)) return UNKNOWN;
            const int bytes = put_code(n->bytes + size, made[i]);
            memset(n->kinds + size, own & KIND, (size_t)bytes);
            if (how & ALIGNED) align(n, size, size + bytes, first + i, first + i + 1);
            size += bytes;
        }
    }
    if (changed && how & ALIGNED) align(n, piece_size, size, piece_place, place);
    n->size = size;
    n->bytes[size] = n->bytes[size + 1] = 0;
    n->kinds[size] = 0xFF;
    return 0;
}
