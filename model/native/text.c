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

int read_text(const tables *t, normal *n, const uint8_t *p, const uint8_t *end, int64_t most, int how) {
    const uint8_t *traits = t->traits, *last = end;
    if ((end - p) / 4 > most) end = p + 4 * most; /* more bytes are not read */
    if (!reserve(n, end - p)) return NO_MEMORY;
    int64_t size = 0, piece = 0; /* the first byte of the piece that `piece_start` begins */
    int32_t place = 0, piece_start = 0;
    int changed = 0; /* whether the piece is not its own NFKC */
    uint8_t class = 0; /* of the character before */
    for (; p < end && place < most; place++) {
        if (*p < 0x80 && !(how & ALIGNED)) { /* ASCII is the same everywhere */
            n->kinds[size] = traits[*p] & KIND;
            n->bytes[size++] = *p++;
            class = 0;
            continue;
        }
        const int32_t code = next_code(&p, last);
        if (code < 0 || code >= CODES) return UNKNOWN;
        const uint8_t trait = traits[code];
        if (how & ALIGNED && trait & BEGINS) {
            for (; changed && piece < size; piece++) {
                n->start[piece] = piece_start;
                n->end[piece] = place;
            }
            piece = size;
            piece_start = place;
            changed = 0;
        }
        const uint32_t single = (uint32_t)code;
        const uint32_t *made = &single;
        int32_t count = 1;
        if (!(how & NORMALIZED) && !(trait & PLAIN)) {
            if (!(trait & MAPPED)) return UNKNOWN;
            const int32_t *offsets = t->mapped_offsets + t->mapping[code];
            made = t->mapped_content + offsets[0];
            count = offsets[1] - offsets[0];
            changed = 1;
            /* room for it, and for what is not read yet */
            if (!reserve(n, size + 4 * count + (end > p ? end - p : 0))) return NO_MEMORY;
        }
        for (int32_t i = 0; i < count; i++) {
            const uint8_t own = traits[made[i]];
            if (how & NORMALIZED) {
                if (!(own & SURE)) return UNKNOWN;
            } else {
                const uint8_t next = t->combining[made[i]];
                if (!(own & PLAIN) || (next && next < class)) return UNKNOWN;
                class = next;
            }
            const int bytes = put_code(n->bytes + size, made[i]);
            for (int j = 0; j < bytes; j++, size++) {
                n->kinds[size] = own & KIND;
                if (how & ALIGNED) {
                    n->start[size] = place;
                    n->end[size] = place + 1;
                }
            }
        }
    }
    for (; changed && piece < size && how & ALIGNED; piece++) {
        n->start[piece] = piece_start;
        n->end[piece] = place;
    }
    n->size = size;
    n->bytes[size] = n->bytes[size + 1] = 0;
    n->kinds[size] = 0xFF;
    return 0;
}
