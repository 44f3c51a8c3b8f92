/* UTF-8 in, NFKC out: what tokenizing and words have in common.
 *
 * What is known of each code point stands in tables that Python makes; a text with anything else in
 * it is left to the reference. NFKC of a text is that of its characters, one after the other, where
 * the result passes the quick check of Unicode UAX #15: no character in it may compose with the one
 * before, and combining marks stand in their order. Where it does not, the piece around the
 * character is taken apart, ordered and composed.
 */
#ifndef GLOSSATOR_TEXT_H
#define GLOSSATOR_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"

enum {
    CODES = 0x30000, /* code points in the tables */
    PAIRS = 2048,    /* places for pairs that compose */
    NOT_APART = 0xFFFF,
};

/* The bits of a trait. */
enum {
    OTHER = 0, LETTER = 1, NUMBER = 2, SPACE = 3, /* as the pre-tokenizer sees it */
    KIND = 3,
    SURE = 4,    /* that it does is known */
    PLAIN = 8,   /* sure, and its own NFKC, and composes with nothing before it */
    MAPPED = 16, /* has another NFKC, see `mapping`; if neither, its NFKC is left to the reference */
    BEGINS = 32, /* neither it nor its decomposition reorders or composes with what is before */
    WORD = 64,   /* part of a word, in a script with spaces */
    BLANK = 128, /* white space around words */
};

typedef struct {
    const uint8_t *traits;          /* [CODES] */
    const uint8_t *combining;       /* [CODES] canonical combining classes */
    const uint16_t *mapping;        /* [CODES] of a mapped character, its place in `mapped_offsets` */
    const int32_t *mapped_offsets;  /* [mapped + 1] */
    const uint32_t *mapped_content; /* the code points that mapped characters become */
    const uint16_t *apart;          /* [CODES] 0: it can't be taken apart; NOT_APART: that is not known;
                                     * or one more than its place in `apart_offsets` */
    const int32_t *apart_offsets;   /* [apart + 1] */
    const uint32_t *apart_content;  /* the code points of full compatibility decompositions */
    const uint64_t *pairs;          /* [PAIRS] first << 32 | second, ascending; then all bits */
    const uint32_t *pairs_made;     /* [PAIRS] what they compose to */
} tables;

/* A text in NFKC, and for each of its bytes what its character is. */
typedef struct {
    uint8_t *bytes; /* [size], two zeros, and more that may be read */
    uint8_t *kinds; /* [size] of the pre-tokenizer, and behind them none of these */
    int32_t *start; /* [size] the first character of the original that it is made of; see `aligned` */
    int32_t *end;   /* [size] behind the last one */
    int64_t size;
    int64_t room;
} normal;

enum { PADDING = 32 }; /* bytes behind a buffer that may be read */

/* What goes wrong. */
enum { UNKNOWN = -1, NO_MEMORY = -2, BAD_INPUT = -3 };

/* How a text is read. */
enum {
    NORMALIZED = 1, /* it is in NFKC */
    ALIGNED = 2,    /* with `start` and `end` */
};

/* Reads the first `most` characters of a text; 0, UNKNOWN if it is left to the reference, or
 * NO_MEMORY. */
int read_text(const tables *t, normal *n, const uint8_t *p, const uint8_t *end, int64_t most, int how);
void free_text(normal *n);

/* A larger block in the place of `*block`; 0 where there is no memory. */
int grow(void *block, size_t bytes);

/* The code point at `*at`, which moves behind it; -1 where there is no valid UTF-8. */
static inline int32_t next_code(const uint8_t **at, const uint8_t *end) {
    const uint8_t *p = *at;
    const uint32_t first = *p;
    if (first < 0x80) {
        *at = p + 1;
        return (int32_t)first;
    }
    const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4 || end - p <= more) return -1;
    uint32_t code = first & (0x3Fu >> more);
    for (int i = 1; i <= more; i++) {
        if ((p[i] & 0xC0) != 0x80) return -1;
        code = code << 6 | (p[i] & 0x3F);
    }
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (code < least[more] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return -1;
    *at = p + more + 1;
    return (int32_t)code;
}

/* Writes the UTF-8 of a code point; how many bytes it has. */
static inline int put_code(uint8_t *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xC0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xE0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}

#endif
