/* Parquet footers that are written as plainly as can be: what they say, and many joined into one.
 *
 * Plain is a footer of which each field is one that is known here, of its type, in order, and there
 * if it has to be; most writers write no others. What is not plain is left to Arrow, which reads
 * more. The format is Thrift's compact protocol; see parquet.thrift of apache/parquet-format, whose
 * names are used here.
 */
#include <stdint.h>
#include <string.h>

#include "../../../model/native/export.h"

/* types of fields; that of a boolean is its value, 1 or 2 */
enum { BYTE_ = 3, I16, I32, I64, DOUBLE_, BINARY_, LIST_, SET_, MAP_, STRUCT_ };
enum { MOST_GROUPS = 16, MOST_ELEMENTS = 1000, MOST_LEVELS = 32, TAIL = 8 };
enum { DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 };
enum { UNCOMPRESSED, SNAPPY };
enum { BYTE_ARRAY = 6 };

typedef struct {
    const uint8_t *at, *end;
} reader;

typedef struct {
    uint8_t *at, *end;
    int full;
} writer;

typedef struct {
    const uint8_t *at, *end;
} span;

typedef struct {
    int64_t repetition, definition, type, wanted;
} leaf;

/* What a footer says of a column chunk. */
typedef struct {
    span encodings, path;
    int64_t type, codec, values, uncompressed, compressed, data, dictionary;
    int64_t repetitions, definitions, lengths;
} chunk;

/* What a file is joined with. */
typedef struct {
    const uint8_t *content;
    int64_t base, data_end;
    const leaf *leaves;
    int64_t columns;
    writer *out;
} joining;

/* What a whole footer says. */
typedef struct {
    int64_t groups, columns, rows;
    int64_t group_rows[MOST_GROUPS];
    const uint8_t *rows_at, *behind_groups;
} summary;

static int read_varint(reader *r, uint64_t *value) {
    uint64_t found = 0;
    for (int shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        const uint8_t byte = *r->at++;
        if (shift == 63 && byte > 1) return 0;
        found |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *value = found;
            return 1;
        }
    }
    return 0;
}

static int read_i64(reader *r, int64_t *value) {
    uint64_t raw;
    if (!read_varint(r, &raw)) return 0;
    *value = (int64_t)(raw >> 1) ^ -(int64_t)(raw & 1);
    return 1;
}

static int read_i32(reader *r, int64_t *value) {
    return read_i64(r, value) && *value >= INT32_MIN && *value <= INT32_MAX;
}

static int read_number(reader *r, int kind, int64_t *value) {
    return kind == I64 ? read_i64(r, value) : read_i32(r, value);
}

static int pass_bytes(reader *r, uint64_t count) {
    if (count > (uint64_t)(r->end - r->at)) return 0;
    r->at += count;
    return 1;
}

static int pass_binary(reader *r) {
    uint64_t size;
    return read_varint(r, &size) && pass_bytes(r, size);
}

/* The next field of a struct: 1, 0 at the struct's end, -1 if it is not plain. */
static int next_field(reader *r, int *number, int *kind) {
    if (r->at == r->end) return -1;
    const uint8_t head = *r->at++;
    if (!head) return 0;
    if (!(head >> 4)) return -1;
    *number += head >> 4;
    *kind = head & 15;
    return 1;
}

static int read_list(reader *r, int *kind, int64_t *count) {
    if (r->at == r->end) return 0;
    const uint8_t head = *r->at++;
    uint64_t size = head >> 4;
    if (size == 15 && !read_varint(r, &size)) return 0;
    *kind = head & 15;
    *count = (int64_t)size;
    return size <= MOST_ELEMENTS && size <= (uint64_t)(r->end - r->at);
}

static int read_list_of(reader *r, int wanted, int64_t *count) {
    int kind;
    return read_list(r, &kind, count) && kind == wanted;
}

/* Passes over what another file has had byte for byte, or Arrow will read. */
static int pass(reader *r, int kind, int levels) {
    uint64_t unused;
    int64_t count;
    int element, number = 0, more;
    if (!levels) return 0;
    switch (kind) {
    case 1:
    case 2:
        return 1;
    case BYTE_:
        return pass_bytes(r, 1);
    case I16:
    case I32:
    case I64:
        return read_varint(r, &unused);
    case DOUBLE_:
        return pass_bytes(r, 8);
    case BINARY_:
        return pass_binary(r);
    case LIST_:
        if (!read_list(r, &element, &count)) return 0;
        if (element == 1 || element == 2) return pass_bytes(r, (uint64_t)count);
        while (count--)
            if (!pass(r, element, levels - 1)) return 0;
        return 1;
    case STRUCT_:
        while ((more = next_field(r, &number, &element)) > 0)
            if (!pass(r, element, levels - 1)) return 0;
        return more == 0;
    default:
        return 0;
    }
}

static int pass_statistics(reader *r) {
    static const int kinds[] = {0, BINARY_, BINARY_, I64, I64, BINARY_, BINARY_, 1, 1, I64};
    int number = 0, kind, more;
    int64_t unused;
    while ((more = next_field(r, &number, &kind)) > 0) {
        if (number > 9 || (kind == 2 ? 1 : kind) != kinds[number]) return 0;
        if (kind == BINARY_ && !pass_binary(r)) return 0;
        if (kind == I64 && !read_i64(r, &unused)) return 0;
    }
    return more == 0;
}

static int pass_encoding_stats(reader *r) {
    int64_t count, unused;
    if (!read_list_of(r, STRUCT_, &count)) return 0;
    while (count--) {
        int number = 0, kind, seen = 0, more;
        while ((more = next_field(r, &number, &kind)) > 0) {
            if (number > 3 || kind != I32 || !read_i32(r, &unused)) return 0;
            seen++;
        }
        if (more < 0 || seen != 3) return 0;
    }
    return 1;
}

static int read_size_statistics(reader *r, chunk *c) {
    int number = 0, kind, more;
    int64_t count, unused;
    while ((more = next_field(r, &number, &kind)) > 0) {
        if (number == 1 && kind == I64) {
            if (!read_i64(r, &unused)) return 0;
            c->lengths = 1;
        } else if ((number == 2 || number == 3) && kind == LIST_) {
            if (!read_list_of(r, I64, &count)) return 0;
            *(number == 2 ? &c->repetitions : &c->definitions) = count;
            while (count--)
                if (!read_i64(r, &unused)) return 0;
        } else {
            return 0;
        }
    }
    return more == 0;
}

static int read_encodings(reader *r) {
    int64_t count, unused;
    if (!read_list_of(r, I32, &count)) return 0;
    while (count--)
        if (!read_i32(r, &unused)) return 0;
    return 1;
}

static int read_path(reader *r) {
    int64_t count;
    if (!read_list_of(r, BINARY_, &count)) return 0;
    while (count--)
        if (!pass_binary(r)) return 0;
    return 1;
}

/* ColumnMetaData. */
static int read_metadata(reader *r, chunk *c) {
    int number = 0, kind, more, seen = 0;
    int64_t unused;
    while ((more = next_field(r, &number, &kind)) > 0) {
        const uint8_t *begin = r->at;
        int plain;
        switch (number * 16 + kind) {
        case 1 * 16 + I32:
            plain = read_i32(r, &c->type);
            break;
        case 2 * 16 + LIST_:
            plain = read_encodings(r);
            c->encodings = (span){begin, r->at};
            break;
        case 3 * 16 + LIST_:
            plain = read_path(r);
            c->path = (span){begin, r->at};
            break;
        case 4 * 16 + I32:
            plain = read_i32(r, &c->codec);
            break;
        case 5 * 16 + I64:
            plain = read_i64(r, &c->values);
            break;
        case 6 * 16 + I64:
            plain = read_i64(r, &c->uncompressed);
            break;
        case 7 * 16 + I64:
            plain = read_i64(r, &c->compressed);
            break;
        case 9 * 16 + I64:
            plain = read_i64(r, &c->data);
            break;
        case 11 * 16 + I64:
            plain = read_i64(r, &c->dictionary);
            break;
        case 12 * 16 + STRUCT_:
            plain = pass_statistics(r);
            break;
        case 13 * 16 + LIST_:
            plain = pass_encoding_stats(r);
            break;
        case 14 * 16 + I64:
        case 15 * 16 + I32:
            plain = read_number(r, kind, &unused);
            break;
        case 16 * 16 + STRUCT_:
            plain = read_size_statistics(r, c);
            break;
        default:
            plain = 0;
        }
        if (!plain) return 0;
        seen |= 1 << number;
    }
    const int needed = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9;
    return more == 0 && (seen & needed) == needed && c->values >= 0 && c->uncompressed >= 0 &&
           c->compressed >= 0;
}

/* ColumnChunk. */
static int read_chunk(reader *r, chunk *c) {
    int number = 0, kind, more, seen = 0;
    int64_t unused;
    memset(c, 0, sizeof *c);
    c->dictionary = -1;
    while ((more = next_field(r, &number, &kind)) > 0) {
        int plain = 0;
        if (number == 3 && kind == STRUCT_)
            plain = read_metadata(r, c);
        else if (number == 2 || number == 4 || number == 6)
            plain = kind == I64 && read_i64(r, &unused);
        else if (number == 5 || number == 7)
            plain = kind == I32 && read_i32(r, &unused);
        if (!plain) return 0;
        seen |= 1 << number;
    }
    return more == 0 && (seen & 12) == 12;
}

/* The header of a data page, of either version: how many values it has. */
static int read_data_header(reader *r, int version, int64_t *values) {
    const int needed = version == 1 ? 4 : 6, statistics = version == 1 ? 5 : 8;
    int number = 0, kind, more, seen = 0;
    int64_t found;
    while ((more = next_field(r, &number, &kind)) > 0) {
        if (number <= needed) {
            if (kind != I32 || !read_i32(r, &found)) return 0;
            if (number == 1) *values = found;
            if (version == 2 && number == 3 && found != *values) return 0; /* rows */
            seen++;
        } else if (number == statistics && kind == STRUCT_) {
            if (!pass_statistics(r)) return 0;
        } else if (version == 1 || number != 7 || kind > 2) { /* is_compressed */
            return 0;
        }
    }
    return more == 0 && seen == needed;
}

static int read_dictionary_header(reader *r) {
    int number = 0, kind, more, seen = 0;
    int64_t unused;
    while ((more = next_field(r, &number, &kind)) > 0) {
        if (number < 3) {
            if (kind != I32 || !read_i32(r, &unused)) return 0;
            seen++;
        } else if (number > 3 || kind > 2) {
            return 0;
        }
    }
    return more == 0 && seen == 2;
}

/* Whether pages fill a chunk, and have its values: else its rows might be taken from the next. */
static int has_all_pages(const uint8_t *begin, const uint8_t *end, int64_t values) {
    reader r = {begin, end};
    int64_t found = 0;
    for (int first = 1; r.at < end; first = 0) {
        int number = 0, kind, more, seen = 0;
        int64_t type = -1, uncompressed = -1, compressed = -1, unused, some = 0;
        while ((more = next_field(&r, &number, &kind)) > 0) {
            int plain = 0;
            if (number == 1 && kind == I32) plain = read_i32(&r, &type);
            if (number == 2 && kind == I32) plain = read_i32(&r, &uncompressed);
            if (number == 3 && kind == I32) plain = read_i32(&r, &compressed);
            if (number == 4 && kind == I32) plain = read_i32(&r, &unused);
            if (number == 5 && kind == STRUCT_) plain = read_data_header(&r, 1, &some);
            if (number == 7 && kind == STRUCT_) plain = read_dictionary_header(&r);
            if (number == 8 && kind == STRUCT_) plain = read_data_header(&r, 2, &some);
            if (!plain) return 0;
            seen |= 1 << number;
        }
        if (more < 0 || uncompressed < 0 || compressed < 0 || some < 0) return 0;
        const int about = seen & (1 << 5 | 1 << 7 | 1 << 8);
        if (type == DICTIONARY_PAGE ? !first || about != 1 << 7
                                    : about != (type == DATA_PAGE      ? 1 << 5
                                                : type == DATA_PAGE_V2 ? 1 << 8
                                                                       : 0))
            return 0;
        if (!about || !pass_bytes(&r, (uint64_t)compressed)) return 0;
        found += some;
    }
    return found == values;
}

/* Whether a chunk can be read as one of several files. */
static int can_be_joined(const chunk *c, int64_t number, const joining *j) {
    if (number >= j->columns) return 0;
    const leaf *l = &j->leaves[number];
    /* of other counts Arrow would end the process */
    if (c->repetitions && c->repetitions != l->repetition + 1) return 0;
    if (c->definitions && c->definitions != l->definition + 1) return 0;
    if (c->lengths && l->type != BYTE_ARRAY) return 0;
    const int64_t begin =
        c->dictionary > 0 && c->dictionary < c->data ? c->dictionary : c->data;
    if (begin < 4 || begin > j->data_end || c->compressed > j->data_end - begin) return 0;
    if (c->data >= begin + c->compressed || c->dictionary > j->data_end) return 0;
    if (!l->wanted) return 1;
    if (c->type != l->type) return 0;
    if (l->repetition || (c->codec != SNAPPY && c->codec != UNCOMPRESSED)) return 0;
    const uint8_t *data = j->content + j->base + begin;
    return has_all_pages(data, data + c->compressed, c->values);
}

static void put(writer *w, const void *bytes, int64_t count) {
    if (w->full || count > w->end - w->at) {
        w->full = 1;
        return;
    }
    memcpy(w->at, bytes, (size_t)count);
    w->at += count;
}

static void put_byte(writer *w, uint8_t byte) { put(w, &byte, 1); }

static void put_varint(writer *w, uint64_t value) {
    for (; value > 127; value >>= 7) put_byte(w, (uint8_t)(value | 128));
    put_byte(w, (uint8_t)value);
}

/* A field that comes so many numbers after the one before. */
static void put_number(writer *w, int step, int kind, int64_t value) {
    put_byte(w, (uint8_t)(step << 4 | kind));
    put_varint(w, (uint64_t)value << 1 ^ (uint64_t)(value >> 63));
}

static void put_span(writer *w, int step, int kind, span s) {
    put_byte(w, (uint8_t)(step << 4 | kind));
    put(w, s.at, s.end - s.at);
}

static void put_list(writer *w, int step, int64_t count) {
    put_byte(w, (uint8_t)(step << 4 | LIST_));
    put_byte(w, (uint8_t)((count < 15 ? count : 15) << 4 | STRUCT_));
    if (count >= 15) put_varint(w, (uint64_t)count);
}

/* A ColumnChunk without what reading does not need. */
static void put_chunk(writer *w, const chunk *c, int64_t base) {
    put_number(w, 2, I64, 0);
    put_byte(w, 1 << 4 | STRUCT_);
    put_number(w, 1, I32, c->type);
    put_span(w, 1, LIST_, c->encodings);
    put_span(w, 1, LIST_, c->path);
    put_number(w, 1, I32, c->codec);
    put_number(w, 1, I64, c->values);
    put_number(w, 1, I64, c->uncompressed);
    put_number(w, 1, I64, c->compressed);
    put_number(w, 2, I64, base + c->data);
    if (c->dictionary > 0) put_number(w, 2, I64, base + c->dictionary);
    put_byte(w, 0);
    put_byte(w, 0);
}

/* RowGroup; writes it too if it is to be joined. */
static int read_group(reader *r, const joining *j, int64_t *rows, int64_t *columns) {
    int number = 0, kind, more, seen = 0;
    int64_t bytes = 0, unused, values = -1;
    while ((more = next_field(r, &number, &kind)) > 0) {
        int plain = 0;
        if (number == 1 && kind == LIST_) {
            plain = read_list_of(r, STRUCT_, columns);
            if (plain && j) put_list(j->out, 1, *columns);
            for (int64_t i = 0; i < *columns && plain; i++) {
                chunk c;
                plain = read_chunk(r, &c) && (!j || can_be_joined(&c, i, j));
                if (!plain || !j) continue;
                if (!j->leaves[i].repetition) {
                    plain = values < 0 || values == c.values;
                    values = c.values;
                }
                put_chunk(j->out, &c, j->base);
            }
        }
        if (number == 2 && kind == I64) plain = read_i64(r, &bytes);
        if (number == 3 && kind == I64) plain = read_i64(r, rows) && *rows >= 0;
        if ((number == 5 || number == 6) && kind == I64) plain = read_i64(r, &unused);
        if (number == 7 && kind == I16)
            plain = read_i64(r, &unused) && unused >= INT16_MIN && unused <= INT16_MAX;
        if (!plain) return 0;
        seen |= 1 << number;
    }
    if (more < 0 || (seen & 14) != 14 || (values >= 0 && values != *rows)) return 0;
    if (j) {
        put_number(j->out, 1, I64, bytes);
        put_number(j->out, 1, I64, *rows);
        put_byte(j->out, 0);
    }
    return 1;
}

/* FileMetaData, which fills a footer but for its last eight bytes. */
static int read_footer(const uint8_t *begin, int64_t size, const joining *j, summary *s) {
    if (size < TAIL || memcmp(begin + size - 4, "PAR1", 4)) return 0;
    reader r = {begin, begin + size - TAIL};
    int number = 0, kind, more, seen = 0;
    int64_t unused, sum = 0;
    memset(s, 0, sizeof *s);
    for (const uint8_t *before = r.at; (more = next_field(&r, &number, &kind)) > 0;
         before = r.at) {
        int plain = 0;
        if (number == 1 && kind == I32) plain = read_i32(&r, &unused);
        if (number == 2 && kind == LIST_) plain = pass(&r, kind, MOST_LEVELS);
        if (number == 3 && kind == I64) {
            s->rows_at = before;
            plain = read_i64(&r, &s->rows);
        }
        if (number == 4 && kind == LIST_) {
            plain = read_list_of(&r, STRUCT_, &s->groups) && s->groups <= MOST_GROUPS;
            for (int64_t i = 0; i < s->groups && plain; i++) {
                int64_t columns = 0;
                plain = read_group(&r, j, &s->group_rows[i], &columns);
                plain = plain && (!i || columns == s->columns) &&
                        s->group_rows[i] <= INT64_MAX - sum;
                s->columns = columns;
                if (plain) sum += s->group_rows[i];
            }
            s->behind_groups = r.at;
        }
        if (number == 5 || number == 7) plain = kind == LIST_ && pass(&r, kind, MOST_LEVELS);
        if (number == 6) plain = kind == BINARY_ && pass_binary(&r);
        if (!plain) return 0;
        seen |= 1 << number;
    }
    return more == 0 && (seen & 30) == 30 && r.at == r.end && s->rows == sum;
}

/* What footers say.
 *
 * content, offsets: footer i is content[offsets[i]] and on, to the file's end; [count + 1].
 * facts: [count, 4] receives the row groups, or -1 of a footer that is not plain; their columns; the
 *     footer's bytes before its number of rows; and those before what comes after the row groups.
 * rows: [count, 16] receives the rows of each group.
 */
EXPORT void glossator_footers(const uint8_t *content, const int64_t *offsets, int64_t count,
                              int64_t *facts, int64_t *rows) {
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *begin = content + offsets[i];
        summary s;
        facts[4 * i] = -1;
        if (!read_footer(begin, offsets[i + 1] - offsets[i], 0, &s)) continue;
        facts[4 * i] = s.groups;
        facts[4 * i + 1] = s.columns;
        facts[4 * i + 2] = s.rows_at - begin;
        facts[4 * i + 3] = s.behind_groups - begin;
        memcpy(rows + MOST_GROUPS * i, s.group_rows, sizeof s.group_rows);
    }
}

/* The footer of files that stand one after the other, as if they were one.
 *
 * content, offsets: the files, whole; [count + 1].
 * sizes: [count] of their footers. All have to say the same but for their rows and row groups.
 * leaves: [columns, 4] of each column its highest repetition and definition level, its physical
 *     type, and whether it will be read.
 * out: receives the footer, to the file's end.
 * Returns its bytes, or -1 if they can't be joined, or `room` is too small.
 */
EXPORT int64_t glossator_join_footers(const uint8_t *content, const int64_t *offsets,
                                      const int64_t *sizes, int64_t count, const int64_t *leaves,
                                      int64_t columns, uint8_t *out, int64_t room) {
    writer w = {out, out + room, 0};
    if (count < 1) return -1;
    int64_t groups = 0, rows = 0;
    summary first = {0}, s;
    const uint8_t *like = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t size = offsets[i + 1] - offsets[i];
        if (sizes[i] < TAIL || sizes[i] > size) return -1;
        const uint8_t *begin = content + offsets[i + 1] - sizes[i];
        if (!read_footer(begin, sizes[i], 0, &s) || s.columns != columns || !s.groups) return -1;
        if (!i) {
            first = s;
            like = begin;
        }
        const int64_t head = first.rows_at - like, tail = sizes[0] - (first.behind_groups - like);
        if (s.rows_at - begin != head || sizes[i] - (s.behind_groups - begin) != tail) return -1;
        /* the footer's size, of its last eight bytes, may be another */
        if (memcmp(begin, like, (size_t)head) ||
            memcmp(s.behind_groups, first.behind_groups, (size_t)(tail - TAIL)))
            return -1;
        if (s.rows > INT64_MAX - rows) return -1;
        groups += s.groups;
        rows += s.rows;
    }
    put(&w, like, first.rows_at - like);
    put_number(&w, 1, I64, rows);
    put_list(&w, 1, groups);
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *begin = content + offsets[i + 1] - sizes[i];
        const joining j = {content, offsets[i], offsets[i + 1] - offsets[i] - sizes[i],
                           (const leaf *)leaves, columns, &w};
        if (!read_footer(begin, sizes[i], &j, &s)) return -1;
    }
    put(&w, first.behind_groups, like + sizes[0] - TAIL - first.behind_groups);
    const int64_t size = w.at - out;
    if (w.full || size > INT32_MAX) return -1;
    const uint8_t length[4] = {(uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16),
                               (uint8_t)(size >> 24)};
    put(&w, length, 4);
    put(&w, "PAR1", 4);
    return w.full ? -1 : w.at - out;
}
