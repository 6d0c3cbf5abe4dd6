/* Rows to bytes in C: what the encode and entries that schema/rows.py generates do, for many rows without Python's steps.
 *
 * An Encoder makes the key, the value and the index entries of rows. A row that holds anything else than values which
 * need no change (another class, a number out of range, a key that is too long) is left to the generated code, which is
 * given along: so there is one place that normalises values and words errors.
 *
 * Values are msgpack, https://github.com/msgpack/msgpack/blob/master/spec.md, each in its shortest form, as msgspec
 * writes it. Only functions of Python's stable ABI (3.11) are used.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MOST 64 /* columns of a row, indexes of a table, parts and fields of each; generated code encodes wider ones */

enum { DECLINED = 0, DONE = 1, FAILED = -1 }; /* FAILED: with an exception set */

/* ------------------------------------------------------------------------------------------ bytes that grow */

typedef struct {
    char *at;
    Py_ssize_t used, room;
    char own[1024];
} Buffer;

static void begin(Buffer *buffer)
{
    buffer->at = buffer->own;
    buffer->used = 0;
    buffer->room = (Py_ssize_t)sizeof buffer->own;
}

static void release(Buffer *buffer)
{
    if (buffer->at != buffer->own)
        PyMem_Free(buffer->at);
}

/* Where `size` more bytes go, or NULL with MemoryError. */
static unsigned char *more(Buffer *buffer, Py_ssize_t size)
{
    if (buffer->room - buffer->used < size) {
        Py_ssize_t room = buffer->room;
        char *at;
        while (room - buffer->used < size) {
            if (room > PY_SSIZE_T_MAX / 2) {
                PyErr_NoMemory();
                return NULL;
            }
            room *= 2;
        }
        at = PyMem_Malloc((size_t)room);
        if (at == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memcpy(at, buffer->at, (size_t)buffer->used);
        release(buffer);
        buffer->at = at;
        buffer->room = room;
    }
    buffer->used += size;
    return (unsigned char *)buffer->at + buffer->used - size;
}

static int append(Buffer *buffer, const void *bytes, Py_ssize_t size)
{
    unsigned char *at = more(buffer, size);
    if (at == NULL)
        return FAILED;
    memcpy(at, bytes, (size_t)size);
    return DONE;
}

static void put_number(unsigned char *at, uint64_t number, int width)
{
    for (int byte = width - 1; byte >= 0; byte--, number >>= 8)
        at[byte] = (unsigned char)number;
}

/* A byte, and a number behind it, big-endian. */
static int append_headed(Buffer *buffer, unsigned char head, uint64_t number, int width)
{
    unsigned char *at = more(buffer, 1 + width);
    if (at == NULL)
        return FAILED;
    at[0] = head;
    put_number(at + 1, number, width);
    return DONE;
}

/* ------------------------------------------------------------------------------------------ columns */

/* What a column takes as it is.
 *
 * Forms: 'b' bytes, 't' text, 'i' integer, '?' bool, 'f' float, 'o' what pack, pack(value), makes packed bytes of; it
 * gives None for a value that has to be normalised first.
 */
typedef struct {
    char form;
    int nullable;
    int64_t low;   /* the least integer, the fewest bytes */
    uint64_t high; /* the largest integer (of a negative one 0), the most bytes or characters */
    PyObject *pack;
} Column;

/* A part of a key. */
typedef struct {
    int place; /* in the row */
    char form; /* as a column's; 'o': encode(value) makes the bytes of it, or gives None */
    int nullable, terminated, descending, is_signed;
    int width; /* of integers */
    PyObject *encode;
} Part;

typedef struct {
    int count;
    Part part[MOST];
} Key;

enum { ALWAYS = 0, WHERE_NULL, WHERE_NOT_NULL, WHERE_ASKED };

typedef struct {
    PyObject *otherwise; /* entries(row, key) -> tuple of pairs, of an index that is left to Python; else NULL */
    int when, where;     /* of which rows there are entries; the place of the column that is NULL or not */
    PyObject *asked;     /* asked(row) -> whether there is one */
    int unique;          /* the record's key stands behind only if a column is NULL, and in the value */
    int keyed;           /* the record's key stands behind */
    Key key;
    int included, field[MOST]; /* places of the columns in the value */
    int valued;                /* there is such a value, and not the record's key or nothing */
    unsigned char header;      /* of it */
} Index;

typedef struct {
    PyObject_HEAD
    int count;   /* columns of a row */
    int fields;  /* columns in the value */
    int indexes;
    Py_ssize_t head, limit; /* bytes of the header; of the longest key */
    char header[8];
    Column column[MOST];
    int field[MOST]; /* places of the columns in the value */
    Key key;
    Index *index;
    PyObject *encode_row;  /* encode(row) -> (key, value, row) */
    PyObject *entries_row; /* entries(row, key) -> a tuple of pairs for each index */
    PyObject *empty;       /* b"" */
} Encoder;

/* Whether a column takes a value as it is. Integers are left in *number; of text *bytes and *size are its UTF-8. */
typedef struct {
    uint64_t number;
    int negative;
    const char *bytes;
    Py_ssize_t size;
} Seen;

static int is_exactly(PyObject *value, PyTypeObject *type) { return Py_TYPE(value) == type; }

static int seen(const Column *column, PyObject *value, Seen *found)
{
    if (value == Py_None)
        return column->nullable ? DONE : DECLINED;
    switch (column->form) {
    case 'b': {
        char *bytes;
        if (!is_exactly(value, &PyBytes_Type) || PyBytes_AsStringAndSize(value, &bytes, &found->size) < 0)
            return DECLINED;
        found->bytes = bytes;
        return found->size >= column->low && (uint64_t)found->size <= column->high ? DONE : DECLINED;
    }
    case 't':
        if (!is_exactly(value, &PyUnicode_Type) || (uint64_t)PyUnicode_GetLength(value) > column->high)
            return DECLINED;
        found->bytes = PyUnicode_AsUTF8AndSize(value, &found->size);
        if (found->bytes == NULL) { /* lone surrogates */
            if (PyErr_ExceptionMatches(PyExc_MemoryError))
                return FAILED;
            PyErr_Clear();
            return DECLINED;
        }
        return DONE;
    case 'i': {
        int beyond;
        long long number;
        if (!is_exactly(value, &PyLong_Type))
            return DECLINED;
        number = PyLong_AsLongLongAndOverflow(value, &beyond);
        if (beyond < 0)
            return DECLINED;
        if (beyond > 0) {
            found->number = PyLong_AsUnsignedLongLong(value);
            if (found->number == (uint64_t)-1 && PyErr_Occurred()) {
                PyErr_Clear();
                return DECLINED;
            }
            found->negative = 0;
            return found->number <= column->high ? DONE : DECLINED;
        }
        found->number = (uint64_t)number;
        found->negative = number < 0;
        if (number < 0 ? number < column->low : (uint64_t)number > column->high)
            return DECLINED;
        return column->low > 0 && number < column->low ? DECLINED : DONE;
    }
    case '?':
        return value == Py_True || value == Py_False ? DONE : DECLINED;
    case 'f':
        return is_exactly(value, &PyFloat_Type) ? DONE : DECLINED;
    default:
        return DONE; /* pack says */
    }
}

/* ------------------------------------------------------------------------------------------ values */

static int pack_number(Buffer *buffer, const Seen *value)
{
    uint64_t number = value->number;
    if (value->negative) {
        int64_t below = (int64_t)number;
        if (below >= -32)
            return append_headed(buffer, (unsigned char)number, 0, 0);
        if (below >= INT8_MIN)
            return append_headed(buffer, 0xd0, number, 1);
        if (below >= INT16_MIN)
            return append_headed(buffer, 0xd1, number, 2);
        if (below >= INT32_MIN)
            return append_headed(buffer, 0xd2, number, 4);
        return append_headed(buffer, 0xd3, number, 8);
    }
    if (number < 0x80)
        return append_headed(buffer, (unsigned char)number, 0, 0);
    if (number <= UINT8_MAX)
        return append_headed(buffer, 0xcc, number, 1);
    if (number <= UINT16_MAX)
        return append_headed(buffer, 0xcd, number, 2);
    if (number <= UINT32_MAX)
        return append_headed(buffer, 0xce, number, 4);
    return append_headed(buffer, 0xcf, number, 8);
}

static int pack_string(Buffer *buffer, const char *bytes, Py_ssize_t size, int text)
{
    int done;
    if (text && size < 32)
        done = append_headed(buffer, (unsigned char)(0xa0 | size), 0, 0);
    else if (size <= UINT8_MAX)
        done = append_headed(buffer, text ? 0xd9 : 0xc4, (uint64_t)size, 1);
    else if (size <= UINT16_MAX)
        done = append_headed(buffer, text ? 0xda : 0xc5, (uint64_t)size, 2);
    else if (size <= UINT32_MAX)
        done = append_headed(buffer, text ? 0xdb : 0xc6, (uint64_t)size, 4);
    else
        return DECLINED; /* msgpack has none so long: the generated code says so */
    return done == DONE ? append(buffer, bytes, size) : done;
}

static int pack_count(Buffer *buffer, int count)
{
    return count < 16 ? append_headed(buffer, (unsigned char)(0x90 | count), 0, 0)
                      : append_headed(buffer, 0xdc, (uint64_t)count, 2);
}

static int pack(Buffer *buffer, const Column *column, PyObject *value)
{
    Seen found;
    int done = seen(column, value, &found);
    if (done != DONE)
        return done;
    if (value == Py_None)
        return append_headed(buffer, 0xc0, 0, 0);
    switch (column->form) {
    case 'b':
    case 't':
        return pack_string(buffer, found.bytes, found.size, column->form == 't');
    case 'i':
        return pack_number(buffer, &found);
    case '?':
        return append_headed(buffer, value == Py_True ? 0xc3 : 0xc2, 0, 0);
    case 'f': {
        double number = PyFloat_AsDouble(value);
        uint64_t bits;
        memcpy(&bits, &number, sizeof bits);
        return append_headed(buffer, 0xcb, bits, 8);
    }
    default: {
        PyObject *packed = PyObject_CallFunctionObjArgs(column->pack, value, NULL);
        char *bytes;
        Py_ssize_t size;
        done = DECLINED;
        if (packed == NULL)
            return FAILED;
        if (packed != Py_None)
            done = PyBytes_AsStringAndSize(packed, &bytes, &size) < 0 ? FAILED : append(buffer, bytes, size);
        Py_DECREF(packed);
        return done;
    }
    }
}

/* ------------------------------------------------------------------------------------------ keys */

static int append_escaped(Buffer *buffer, const char *bytes, Py_ssize_t size)
{
    const char *end = bytes + size;
    while (bytes < end) {
        const char *zero = memchr(bytes, 0, (size_t)(end - bytes));
        if (zero == NULL)
            break;
        if (append(buffer, bytes, zero - bytes) != DONE || append(buffer, "\x00\xff", 2) != DONE)
            return FAILED;
        bytes = zero + 1;
    }
    return append(buffer, bytes, end - bytes) == DONE ? append(buffer, "\x00\x01", 2) : FAILED;
}

static int append_part(Buffer *buffer, const Part *part, const Column *column, PyObject *value)
{
    Seen found;
    Py_ssize_t began = buffer->used;
    int done;
    if (value == Py_None) {
        if (!part->nullable)
            return DECLINED;
        done = append(buffer, "\x00", 1);
    } else {
        done = seen(column, value, &found);
        if (done == DONE && part->nullable)
            done = append(buffer, "\x01", 1);
        if (done != DONE)
            return done;
        switch (part->form) {
        case 'b':
        case 't':
            done = part->terminated ? append_escaped(buffer, found.bytes, found.size)
                                    : append(buffer, found.bytes, found.size);
            break;
        case 'i': {
            unsigned char *at = more(buffer, part->width);
            if (at == NULL)
                return FAILED;
            put_number(at, part->is_signed ? found.number ^ (uint64_t)1 << (8 * part->width - 1) : found.number,
                       part->width);
            break;
        }
        case '?':
            done = append(buffer, value == Py_True ? "\x01" : "\x00", 1);
            break;
        default: {
            PyObject *encoded = PyObject_CallFunctionObjArgs(part->encode, value, NULL);
            char *bytes;
            Py_ssize_t size;
            if (encoded == NULL)
                return FAILED;
            if (encoded == Py_None)
                done = DECLINED;
            else if (PyBytes_AsStringAndSize(encoded, &bytes, &size) < 0)
                done = FAILED;
            else
                done = part->terminated ? append_escaped(buffer, bytes, size) : append(buffer, bytes, size);
            Py_DECREF(encoded);
        }
        }
    }
    if (done == DONE && part->descending)
        for (Py_ssize_t at = began; at < buffer->used; at++)
            buffer->at[at] = (char)~buffer->at[at];
    return done;
}

static int append_key(const Encoder *self, Buffer *buffer, const Key *key, PyObject *row)
{
    for (int number = 0; number < key->count; number++) {
        const Part *part = &key->part[number];
        int done = append_part(buffer, part, &self->column[part->place], PyTuple_GetItem(row, part->place));
        if (done != DONE)
            return done;
    }
    return DONE;
}

static PyObject *bytes_of(const Buffer *buffer) { return PyBytes_FromStringAndSize(buffer->at, buffer->used); }

/* ------------------------------------------------------------------------------------------ a row */

/* Whether a key is the very bytes of its only column. */
static int is_whole(const Key *key)
{
    const Part *part = &key->part[0];
    return key->count == 1 && part->form == 'b' && !part->nullable && !part->terminated && !part->descending;
}

/* The columns at `places` of a row behind what a value begins with, which `done` tells of; the value as a new reference. */
static int pack_row(const Encoder *self, Buffer *buffer, int done, const int *places, int count, PyObject *row,
                    PyObject **value)
{
    for (int number = 0; done == DONE && number < count; number++)
        done = pack(buffer, &self->column[places[number]], PyTuple_GetItem(row, places[number]));
    if (done == DONE && (*value = bytes_of(buffer)) == NULL)
        done = FAILED;
    return done;
}

/* Key and value of a row, as new references. */
static int encode(const Encoder *self, Buffer *buffer, PyObject *row, PyObject **key, PyObject **value)
{
    int done = DONE;
    *key = *value = NULL;
    if (!is_exactly(row, &PyTuple_Type) || PyTuple_Size(row) != self->count)
        return DECLINED;
    buffer->used = 0;
    done = append_key(self, buffer, &self->key, row);
    if (done != DONE)
        return done;
    if (buffer->used == 0 || buffer->used > self->limit)
        return DECLINED;
    if (is_whole(&self->key))
        *key = Py_NewRef(PyTuple_GetItem(row, self->key.part[0].place));
    else if ((*key = bytes_of(buffer)) == NULL)
        return FAILED;
    buffer->used = 0;
    done = append(buffer, self->header, self->head);
    if (done == DONE)
        done = pack_count(buffer, self->fields);
    done = pack_row(self, buffer, done, self->field, self->fields, row, value);
    if (done != DONE)
        Py_CLEAR(*key);
    return done;
}

/* The entry of a row in an index, as new references; both NULL if there is none. */
static int entry_of(const Encoder *self, const Index *index, Buffer *buffer, PyObject *row, PyObject *record_key,
                    PyObject **key, PyObject **value)
{
    char *behind;
    Py_ssize_t size;
    int done, with_key = index->keyed;
    *key = *value = NULL;
    if (index->when == WHERE_ASKED) {
        PyObject *answer = PyObject_CallFunctionObjArgs(index->asked, row, NULL);
        int holds = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
        if (holds <= 0)
            return holds < 0 ? FAILED : DONE;
    } else if (index->when != ALWAYS) {
        int null = PyTuple_GetItem(row, index->where) == Py_None;
        if (null != (index->when == WHERE_NULL))
            return DONE;
    }
    buffer->used = 0;
    done = append_key(self, buffer, &index->key, row);
    if (done != DONE)
        return done;
    if (index->unique)
        for (int number = 0; number < index->key.count; number++)
            with_key |= PyTuple_GetItem(row, index->key.part[number].place) == Py_None;
    if (PyBytes_AsStringAndSize(record_key, &behind, &size) < 0 ||
        (with_key && append(buffer, behind, size) != DONE))
        return FAILED;
    if (buffer->used == 0 || buffer->used > self->limit)
        return DECLINED;
    if ((*key = bytes_of(buffer)) == NULL)
        return FAILED;
    if (!index->valued) {
        *value = Py_NewRef(index->unique ? record_key : self->empty);
        return DONE;
    }
    buffer->used = 0;
    done = append(buffer, &index->header, 1);
    if (done == DONE)
        done = pack_count(buffer, index->included + (index->unique ? 1 : 0));
    if (done == DONE && index->unique)
        done = pack_string(buffer, behind, size, 0);
    done = pack_row(self, buffer, done, index->field, index->included, row, value);
    if (done != DONE)
        Py_CLEAR(*key);
    return done;
}

/* The entries of a row in an index as a tuple of pairs. */
static int entries_of(const Encoder *self, const Index *index, Buffer *buffer, PyObject *row, PyObject *record_key,
                      PyObject **entries)
{
    PyObject *key, *value, *pair;
    int done;
    *entries = NULL;
    if (index->otherwise != NULL) {
        *entries = PyObject_CallFunctionObjArgs(index->otherwise, row, record_key, NULL);
        return *entries == NULL ? FAILED : DONE;
    }
    done = entry_of(self, index, buffer, row, record_key, &key, &value);
    if (done != DONE)
        return done;
    if (key == NULL) {
        *entries = PyTuple_New(0);
    } else {
        pair = PyTuple_Pack(2, key, value);
        *entries = pair == NULL ? NULL : PyTuple_Pack(1, pair);
        Py_XDECREF(pair);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    return *entries == NULL ? FAILED : DONE;
}

/* After FAILED in what Python was asked for: an error that the generated code meets too is left to it to word. */
static int worded(int done)
{
    if (done != FAILED || !PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError))
        return done;
    PyErr_Clear();
    return DECLINED;
}

/* ------------------------------------------------------------------------------------------ Encoder */

PyDoc_STRVAR(encode_doc, "encode(row)\n--\n\nKey, value and the normalised row.");

static PyObject *Encoder_encode(PyObject *encoder, PyObject *const *args, Py_ssize_t count)
{
    Encoder *self = (Encoder *)encoder;
    PyObject *key, *value, *made;
    Buffer buffer;
    int done;
    if (count != 1) {
        PyErr_SetString(PyExc_TypeError, "encode(row)");
        return NULL;
    }
    begin(&buffer);
    done = worded(encode(self, &buffer, args[0], &key, &value));
    release(&buffer);
    if (done == FAILED)
        return NULL;
    if (done == DECLINED)
        return PyObject_CallFunctionObjArgs(self->encode_row, args[0], NULL);
    made = PyTuple_Pack(3, key, value, args[0]);
    Py_DECREF(key);
    Py_DECREF(value);
    return made;
}

PyDoc_STRVAR(key_doc, "key(identity)\n--\n\nThe key of a primary key value, or a tuple of them; None for what needs a look.");

static PyObject *Encoder_key(PyObject *encoder, PyObject *identity)
{
    Encoder *self = (Encoder *)encoder;
    const Key *key = &self->key;
    PyObject *made = NULL;
    Buffer buffer;
    int done = DONE;
    if (key->count != 1 && (!is_exactly(identity, &PyTuple_Type) || PyTuple_Size(identity) != key->count))
        Py_RETURN_NONE;
    begin(&buffer);
    for (int number = 0; done == DONE && number < key->count; number++) {
        const Part *part = &key->part[number];
        PyObject *value = key->count == 1 ? identity : PyTuple_GetItem(identity, number);
        done = append_part(&buffer, part, &self->column[part->place], value);
    }
    done = worded(done);
    if (done == DONE && (buffer.used == 0 || buffer.used > self->limit))
        done = DECLINED;
    if (done == DONE)
        made = is_whole(key) ? Py_NewRef(identity) : bytes_of(&buffer);
    else if (done == DECLINED)
        made = Py_NewRef(Py_None);
    release(&buffer);
    return made;
}

PyDoc_STRVAR(entries_doc, "entries(row, key)\n--\n\nFor each index a tuple of its entries for a row that was encoded.");

static PyObject *Encoder_entries(PyObject *encoder, PyObject *const *args, Py_ssize_t count)
{
    Encoder *self = (Encoder *)encoder;
    PyObject *made;
    Buffer buffer;
    int done = DONE;
    if (count != 2 || !PyBytes_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "entries(row, key)");
        return NULL;
    }
    if (!is_exactly(args[0], &PyTuple_Type) || PyTuple_Size(args[0]) != self->count)
        return PyObject_CallFunctionObjArgs(self->entries_row, args[0], args[1], NULL);
    made = PyTuple_New(self->indexes);
    if (made == NULL)
        return NULL;
    begin(&buffer);
    for (int number = 0; done == DONE && number < self->indexes; number++) {
        PyObject *entries;
        done = entries_of(self, &self->index[number], &buffer, args[0], args[1], &entries);
        if (done == DONE && PyTuple_SetItem(made, number, entries) < 0)
            done = FAILED;
    }
    release(&buffer);
    done = worded(done);
    if (done == DONE)
        return made;
    Py_DECREF(made);
    return done == FAILED ? NULL : PyObject_CallFunctionObjArgs(self->entries_row, args[0], args[1], NULL);
}

/* Whether a column has the same value in two rows, where that can be told without its bytes; -1 with an exception. */
static int is_same(const Encoder *self, int place, PyObject *before, PyObject *after)
{
    PyObject *one = PyTuple_GetItem(before, place), *other = PyTuple_GetItem(after, place);
    if (one == other)
        return 1;
    if (one == Py_None || other == Py_None || self->column[place].form == 'f' || self->column[place].form == 'o')
        return 0;
    return PyObject_RichCompareBool(one, other, Py_EQ);
}

/* Whether an index can see no difference between two rows. */
static int is_unmoved(const Encoder *self, const Index *index, PyObject *before, PyObject *after)
{
    int same = index->otherwise == NULL && index->when != WHERE_ASKED;
    if (same && index->when != ALWAYS)
        same = is_same(self, index->where, before, after);
    for (int number = 0; same == 1 && number < index->key.count; number++)
        same = is_same(self, index->key.part[number].place, before, after);
    for (int number = 0; same == 1 && number < index->included; number++)
        same = is_same(self, index->field[number], before, after);
    return same;
}

PyDoc_STRVAR(moves_doc, "moves(before, after, key)\n--\n\n"
                        "Of two rows with the same key (number, entries before, entries after) for each index whose\n"
                        "entries differ.");

static PyObject *Encoder_moves(PyObject *encoder, PyObject *const *args, Py_ssize_t count)
{
    Encoder *self = (Encoder *)encoder;
    PyObject *made;
    Buffer buffer;
    int done = DONE;
    if (count != 3 || !PyBytes_Check(args[2]) || !PyTuple_Check(args[0]) || !PyTuple_Check(args[1]) ||
        PyTuple_Size(args[0]) != self->count || PyTuple_Size(args[1]) != self->count) {
        PyErr_SetString(PyExc_TypeError, "moves(row before, row after, key)");
        return NULL;
    }
    made = PyList_New(0);
    if (made == NULL)
        return NULL;
    begin(&buffer);
    for (int number = 0; done == DONE && number < self->indexes; number++) {
        PyObject *entries[2] = {NULL, NULL}, *move = NULL;
        int same = is_unmoved(self, &self->index[number], args[0], args[1]);
        for (int row = 0; same == 0 && done == DONE && row < 2; row++) {
            done = entries_of(self, &self->index[number], &buffer, args[row], args[2], &entries[row]);
            if (worded(done) == DECLINED) { /* all indexes are asked, and this one is taken */
                PyObject *all = PyObject_CallFunctionObjArgs(self->entries_row, args[row], args[2], NULL);
                entries[row] = all == NULL ? NULL : Py_XNewRef(PyTuple_GetItem(all, number));
                Py_XDECREF(all);
                done = entries[row] == NULL ? FAILED : DONE;
            }
        }
        if (same == 0 && done == DONE)
            same = PyObject_RichCompareBool(entries[0], entries[1], Py_EQ);
        if (same == 0 && done == DONE) {
            move = Py_BuildValue("(iOO)", number, entries[0], entries[1]);
            if (move == NULL || PyList_Append(made, move) < 0)
                done = FAILED;
        }
        if (same < 0)
            done = FAILED;
        Py_XDECREF(move);
        Py_XDECREF(entries[0]);
        Py_XDECREF(entries[1]);
    }
    release(&buffer);
    if (done != DONE)
        Py_CLEAR(made);
    return made;
}

/* Put pairs, a tuple of them, into a dict. */
static int put_pairs(PyObject *target, PyObject *pairs, Py_ssize_t *count)
{
    if (pairs == NULL || !PyTuple_Check(pairs)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "entries are a tuple of pairs");
        return FAILED;
    }
    for (Py_ssize_t at = 0; at < PyTuple_Size(pairs); at++, ++*count) {
        PyObject *pair = PyTuple_GetItem(pairs, at), *key = PyTuple_GetItem(pair, 0);
        PyObject *value = key == NULL ? NULL : PyTuple_GetItem(pair, 1);
        if (value == NULL || PyDict_SetItem(target, key, value) < 0)
            return FAILED;
    }
    return DONE;
}

/* Add a row to the records and entries of insert(): by the generated code. */
static int insert_otherwise(const Encoder *self, PyObject *row, PyObject *pairs, PyObject **targets, Py_ssize_t *counts)
{
    PyObject *encoded = PyObject_CallFunctionObjArgs(self->encode_row, row, NULL), *pair, *entries = NULL;
    int done = FAILED;
    if (encoded == NULL)
        return FAILED;
    pair = PyTuple_GetSlice(encoded, 0, 2);
    if (pair != NULL && PyList_Append(pairs, pair) == 0)
        entries = PyObject_CallFunctionObjArgs(self->entries_row, PyTuple_GetItem(encoded, 2),
                                               PyTuple_GetItem(encoded, 0), NULL);
    if (entries != NULL) {
        done = DONE;
        for (int number = 0; done == DONE && number < self->indexes; number++)
            done = put_pairs(targets[number], PyTuple_GetItem(entries, number), &counts[number]);
    }
    Py_XDECREF(entries);
    Py_XDECREF(pair);
    Py_DECREF(encoded);
    return done;
}

/* The same in C. Nothing is added if it is declined. */
static int insert(const Encoder *self, Buffer *buffer, PyObject *row, PyObject *pairs, PyObject **targets,
                  Py_ssize_t *counts)
{
    PyObject *key, *value, *entry_keys[MOST], *entry_values[MOST], *pair;
    int done = encode(self, buffer, row, &key, &value), made = 0;
    if (done != DONE)
        return done;
    for (; done == DONE && made < self->indexes; made++) {
        const Index *index = &self->index[made];
        entry_values[made] = NULL;
        if (index->otherwise != NULL) {
            entry_keys[made] = PyObject_CallFunctionObjArgs(index->otherwise, row, key, NULL);
            if (entry_keys[made] == NULL)
                done = FAILED;
        } else
            done = entry_of(self, index, buffer, row, key, &entry_keys[made], &entry_values[made]);
    }
    if (done == DONE) {
        pair = PyTuple_Pack(2, key, value);
        if (pair == NULL || PyList_Append(pairs, pair) < 0)
            done = FAILED;
        Py_XDECREF(pair);
    }
    for (int number = 0; number < made; number++) {
        if (done == DONE && entry_keys[number] != NULL) {
            if (self->index[number].otherwise != NULL)
                done = put_pairs(targets[number], entry_keys[number], &counts[number]);
            else if (PyDict_SetItem(targets[number], entry_keys[number], entry_values[number]) < 0)
                done = FAILED;
            else
                counts[number]++;
        }
        Py_XDECREF(entry_keys[number]);
        Py_XDECREF(entry_values[number]);
    }
    Py_DECREF(key);
    Py_DECREF(value);
    return done;
}

PyDoc_STRVAR(insert_doc,
             "insert(rows)\n--\n\nOf a list of rows the pairs of key and value, and for each index a dict of its entries\n"
             "and how many these were: more than the dict has where some are equal.");

static PyObject *Encoder_insert(PyObject *encoder, PyObject *rows)
{
    Encoder *self = (Encoder *)encoder;
    PyObject *pairs = PyList_New(0), *targets[MOST], *entries = NULL, *made = NULL;
    Py_ssize_t counts[MOST] = {0};
    Buffer buffer;
    int done = pairs == NULL ? FAILED : DONE;
    for (int number = 0; number < self->indexes; number++)
        if ((targets[number] = PyDict_New()) == NULL)
            done = FAILED;
    if (done == DONE && !PyList_Check(rows)) {
        PyErr_SetString(PyExc_TypeError, "rows are a list");
        done = FAILED;
    }
    begin(&buffer);
    for (Py_ssize_t at = 0; done == DONE && at < PyList_Size(rows); at++) {
        PyObject *row = Py_NewRef(PyList_GetItem(rows, at));
        Py_ssize_t before = PyList_Size(pairs);
        done = insert(self, &buffer, row, pairs, targets, counts);
        if (done == FAILED && PyList_Size(pairs) == before)
            done = worded(done);
        if (done == DECLINED)
            done = insert_otherwise(self, row, pairs, targets, counts);
        Py_DECREF(row);
    }
    release(&buffer);
    if (done == DONE)
        entries = PyList_New(self->indexes);
    for (int number = 0; number < self->indexes; number++) {
        if (entries != NULL) {
            PyObject *counted = Py_BuildValue("(On)", targets[number], counts[number]);
            if (counted == NULL || PyList_SetItem(entries, number, counted) < 0)
                Py_CLEAR(entries);
        }
        Py_XDECREF(targets[number]);
    }
    if (entries != NULL)
        made = PyTuple_Pack(2, pairs, entries);
    Py_XDECREF(entries);
    Py_XDECREF(pairs);
    return made;
}

/* ------------------------------------------------------------------------------------------ making one */

static int key_of(const Encoder *self, PyObject *parts, Key *key)
{
    if (!PyTuple_Check(parts) || PyTuple_Size(parts) > MOST) {
        PyErr_Format(PyExc_ValueError, "a key is a tuple of at most %d parts", MOST);
        return -1;
    }
    for (; key->count < (int)PyTuple_Size(parts); key->count++) {
        Part *part = &key->part[key->count];
        PyObject *form, *with;
        if (!PyArg_ParseTuple(PyTuple_GetItem(parts, key->count), "iUppppiO", &part->place, &form, &part->nullable,
                              &part->terminated, &part->descending, &part->is_signed, &part->width, &with))
            return -1;
        if (part->place < 0 || part->place >= self->count || PyUnicode_GetLength(form) != 1 || part->width > 8) {
            PyErr_SetString(PyExc_ValueError, "a part has a place in the row, and a form of one letter");
            return -1;
        }
        part->form = (char)PyUnicode_ReadChar(form, 0);
        part->encode = with == Py_None ? NULL : Py_NewRef(with);
    }
    return 0;
}

static int places_of(const Encoder *self, PyObject *places, int *field, int *count)
{
    if (!PyTuple_Check(places) || PyTuple_Size(places) > MOST) {
        PyErr_Format(PyExc_ValueError, "fields are a tuple of at most %d places", MOST);
        return -1;
    }
    for (; *count < (int)PyTuple_Size(places); ++*count) {
        long place = PyLong_AsLong(PyTuple_GetItem(places, *count));
        if (place < 0 || place >= self->count) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a field has a place in the row");
            return -1;
        }
        field[*count] = (int)place;
    }
    return 0;
}

static int index_of(const Encoder *self, PyObject *spec, Index *index)
{
    PyObject *parts, *asked, *included;
    int header;
    if (!PyTuple_Check(spec)) {
        index->otherwise = Py_NewRef(spec);
        return 0;
    }
    if (!PyArg_ParseTuple(spec, "OiiOppOi", &parts, &index->when, &index->where, &asked, &index->unique, &index->keyed,
                          &included, &header))
        return -1;
    if (index->where < 0 || index->where >= self->count) {
        PyErr_SetString(PyExc_ValueError, "a predicate has a place in the row");
        return -1;
    }
    index->asked = asked == Py_None ? NULL : Py_NewRef(asked);
    index->header = (unsigned char)header;
    index->valued = included != Py_None;
    if (index->valued && places_of(self, included, index->field, &index->included) < 0)
        return -1;
    return key_of(self, parts, &index->key);
}

static int visit_key(const Key *key, visitproc visit, void *arg)
{
    for (int number = 0; number < key->count; number++)
        Py_VISIT(key->part[number].encode);
    return 0;
}

static int Encoder_traverse(PyObject *object, visitproc visit, void *arg)
{
    Encoder *self = (Encoder *)object;
    int seen_all;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->encode_row);
    Py_VISIT(self->entries_row);
    for (int place = 0; place < self->count; place++)
        Py_VISIT(self->column[place].pack);
    if ((seen_all = visit_key(&self->key, visit, arg)) != 0)
        return seen_all;
    for (int number = 0; number < self->indexes; number++) {
        Py_VISIT(self->index[number].otherwise);
        Py_VISIT(self->index[number].asked);
        if ((seen_all = visit_key(&self->index[number].key, visit, arg)) != 0)
            return seen_all;
    }
    return 0;
}

static void clear_key(Key *key)
{
    for (int number = 0; number < key->count; number++)
        Py_CLEAR(key->part[number].encode);
}

static int Encoder_clear(PyObject *object)
{
    Encoder *self = (Encoder *)object;
    Py_CLEAR(self->encode_row);
    Py_CLEAR(self->entries_row);
    for (int place = 0; place < self->count; place++)
        Py_CLEAR(self->column[place].pack);
    clear_key(&self->key);
    for (int number = 0; number < self->indexes; number++) {
        Py_CLEAR(self->index[number].otherwise);
        Py_CLEAR(self->index[number].asked);
        clear_key(&self->index[number].key);
    }
    return 0;
}

static void Encoder_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(object);
    Encoder_clear(object);
    Py_CLEAR(((Encoder *)object)->empty);
    PyMem_Free(((Encoder *)object)->index);
    release_object(object);
    Py_DECREF(type);
}

PyDoc_STRVAR(Encoder_doc, "Encoder(columns, key, header, fields, indexes, limit, encode, entries)\n--\n\n"
                          "Makes keys, values and index entries of rows; see kvdialect/schema/compiled.py for its\n"
                          "arguments.");

static PyObject *Encoder_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    PyObject *columns, *key, *header, *fields, *indexes, *encode_row, *entries_row;
    Py_ssize_t limit;
    char *bytes;
    Encoder *self;
    (void)named;
    if (!PyArg_ParseTuple(args, "O!OO!OO!nOO", &PyTuple_Type, &columns, &key, &PyBytes_Type, &header, &fields,
                          &PyTuple_Type, &indexes, &limit, &encode_row, &entries_row))
        return NULL;
    if (PyTuple_Size(columns) < 1 || PyTuple_Size(columns) > MOST || PyTuple_Size(indexes) > MOST) {
        PyErr_Format(PyExc_ValueError, "rows of 1 to %d columns and tables of as many indexes are encoded here", MOST);
        return NULL;
    }
    self = (Encoder *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->encode_row = Py_NewRef(encode_row);
    self->entries_row = Py_NewRef(entries_row);
    self->limit = limit;
    self->empty = PyBytes_FromStringAndSize(NULL, 0);
    self->index = PyMem_Calloc((size_t)PyTuple_Size(indexes) + 1, sizeof(Index));
    if (self->empty == NULL || self->index == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    if (PyBytes_AsStringAndSize(header, &bytes, &self->head) < 0)
        goto failed;
    if (self->head > (Py_ssize_t)sizeof self->header) {
        PyErr_SetString(PyExc_ValueError, "the header is too long");
        goto failed;
    }
    memcpy(self->header, bytes, (size_t)self->head);
    for (; self->count < (int)PyTuple_Size(columns); self->count++) {
        Column *column = &self->column[self->count];
        PyObject *form, *with;
        long long low;
        unsigned long long high;
        if (!PyArg_ParseTuple(PyTuple_GetItem(columns, self->count), "UpLKO", &form, &column->nullable, &low, &high,
                              &with))
            goto failed;
        if (PyUnicode_GetLength(form) != 1) {
            PyErr_SetString(PyExc_ValueError, "a column has a form of one letter");
            goto failed;
        }
        column->form = (char)PyUnicode_ReadChar(form, 0);
        column->low = low;
        column->high = high;
        column->pack = with == Py_None ? NULL : Py_NewRef(with);
    }
    if (key_of(self, key, &self->key) < 0 || places_of(self, fields, self->field, &self->fields) < 0)
        goto failed;
    for (; self->indexes < (int)PyTuple_Size(indexes); self->indexes++)
        if (index_of(self, PyTuple_GetItem(indexes, self->indexes), &self->index[self->indexes]) < 0) {
            self->indexes++;
            goto failed;
        }
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static PyMethodDef Encoder_methods[] = {
    {"encode", (PyCFunction)(void (*)(void))Encoder_encode, METH_FASTCALL, encode_doc},
    {"entries", (PyCFunction)(void (*)(void))Encoder_entries, METH_FASTCALL, entries_doc},
    {"insert", Encoder_insert, METH_O, insert_doc},
    {"key", Encoder_key, METH_O, key_doc},
    {"moves", (PyCFunction)(void (*)(void))Encoder_moves, METH_FASTCALL, moves_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot Encoder_slots[] = {
    {Py_tp_doc, (void *)Encoder_doc},
    {Py_tp_new, Encoder_new},
    {Py_tp_dealloc, Encoder_dealloc},
    {Py_tp_traverse, Encoder_traverse},
    {Py_tp_clear, Encoder_clear},
    {Py_tp_methods, Encoder_methods},
    {0, NULL},
};

static PyType_Spec Encoder_spec = {
    "kvdialect.schema._encoding.Encoder", sizeof(Encoder), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, Encoder_slots,
};

/* ------------------------------------------------------------------------------------------ the module */

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "_encoding",
    "Rows to bytes in C; see kvdialect/schema/compiled.py.",
    -1,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__encoding(void)
{
    PyObject *module = PyModule_Create(&definition), *type;
    if (module == NULL)
        return NULL;
    type = PyType_FromSpec(&Encoder_spec);
    if (type == NULL || PyModule_AddObjectRef(module, "Encoder", type) < 0 ||
        PyModule_AddIntConstant(module, "MOST", MOST) < 0)
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}
