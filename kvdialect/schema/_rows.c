/* Rows in C: what the code that schema/rows.py and orm/loading.py generate does for each pair, without Python's steps.
 *
 * A Decoder makes rows of keys and values; a Loader makes objects of a record class of them. What a pair holds otherwise
 * than expected (another version of the fields, damaged bytes, a type that is not known here) is left to the generated
 * code, which is given along: so there is one place that knows old rows and words errors. setter is the __setattr__ of
 * records.
 *
 * Values are msgpack, https://github.com/msgpack/msgpack/blob/master/spec.md. Only functions of Python's stable ABI
 * (3.11) are used.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MOST 64 /* columns of a row; generated code decodes wider ones */

enum { DECLINED = 0, DONE = 1, FAILED = -1 }; /* FAILED: with an exception set */

/* ------------------------------------------------------------------------------------------ fields */

/* A part of a key, or a field of a value.
 *
 * Forms in keys: 'b' bytes, 't' text, 'u' unsigned and 'i' signed integer, '?' bool, 'o' what load makes of the bytes.
 * Forms in values: 'b' bytes, 't' text, 'i' integer, '?' bool, 'f' float, 'd' any of SQL's (integer, float, text, bytes),
 * 'n' a name and load what it stands for, 'o' what load makes of the packed bytes.
 */
typedef struct {
    int place; /* in the row; -1: read and left out */
    char form;
    int nullable;
    Py_ssize_t width; /* in a key; -1: all that follows */
    int64_t low;      /* the least integer, the fewest bytes */
    uint64_t high;    /* the largest integer (of a negative one 0), the most bytes or characters */
    PyObject *load;   /* makes the value of what was read, or NULL */
} Field;

typedef struct {
    PyObject_HEAD
    int count;       /* columns of a row */
    int parts;       /* of the key */
    int fields;      /* of the value */
    int valued;      /* values are read; those of index entries without included columns are not */
    Py_ssize_t head; /* bytes of the header */
    char header[8];
    Field field[MOST]; /* the parts of the key, and the fields of the value behind them */
    PyObject *otherwise; /* otherwise(key, value) -> row */
} Decoder;

static int field_of(PyObject *spec, int key, int count, Field *field)
{
    PyObject *form, *load;
    int place, nullable;
    Py_ssize_t width = -1;
    long long low = 0;
    unsigned long long high = 0;
    if (!PyTuple_Check(spec)) {
        PyErr_SetString(PyExc_TypeError, "a field is a tuple");
        return -1;
    }
    if (key) {
        if (!PyArg_ParseTuple(spec, "iUpOn", &place, &form, &nullable, &load, &width))
            return -1;
    } else if (!PyArg_ParseTuple(spec, "iUpOLK", &place, &form, &nullable, &load, &low, &high))
        return -1;
    if (place < -1 || place >= count || PyUnicode_GetLength(form) != 1) {
        PyErr_SetString(PyExc_ValueError, "a field has a place in the row, and a form of one letter");
        return -1;
    }
    field->place = place;
    field->form = (char)PyUnicode_ReadChar(form, 0);
    field->nullable = nullable;
    field->width = width;
    field->low = low;
    field->high = high;
    field->load = load == Py_None ? NULL : Py_NewRef(load);
    return 0;
}

/* ------------------------------------------------------------------------------------------ keys */

static PyObject *integer_of(const unsigned char *at, Py_ssize_t width, int is_signed)
{
    uint64_t number = 0;
    for (Py_ssize_t byte = 0; byte < width; byte++)
        number = number << 8 | at[byte];
    if (!is_signed)
        return PyLong_FromUnsignedLongLong(number);
    return PyLong_FromLongLong((long long)(number - ((uint64_t)1 << (8 * width - 1))));
}

static PyObject *part_of(const Field *part, PyObject *key, const char *at, Py_ssize_t width)
{
    switch (part->form) {
    case 'b':
        return width == PyBytes_Size(key) ? Py_NewRef(key) : PyBytes_FromStringAndSize(at, width);
    case 't':
        return PyUnicode_DecodeUTF8(at, width, NULL);
    case 'u':
        return integer_of((const unsigned char *)at, width, 0);
    case 'i':
        return integer_of((const unsigned char *)at, width, 1);
    case '?':
        return *at == 0 || *at == 1 ? PyBool_FromLong(*at) : NULL;
    default: {
        PyObject *raw = PyBytes_FromStringAndSize(at, width), *found;
        if (raw == NULL)
            return NULL;
        found = PyObject_CallFunctionObjArgs(part->load, raw, NULL);
        Py_DECREF(raw);
        return found;
    }
    }
}

static int decode_key(const Decoder *self, PyObject *key, const char *wanted, PyObject **out)
{
    char *at;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(key, &at, &size) < 0)
        return DECLINED;
    for (int number = 0; number < self->parts; number++) {
        const Field *part = &self->field[number];
        Py_ssize_t width = part->width;
        int null = 0;
        if (part->nullable) {
            if (size < 1 || (*at != 0 && *at != 1))
                return DECLINED;
            null = *at == 0;
            at++;
            size--;
        }
        if (null)
            width = 0;
        else if (width < 0)
            width = size;
        if (width > size)
            return DECLINED;
        if (part->place >= 0 && out[part->place] == NULL && (wanted == NULL || wanted[part->place])) {
            out[part->place] = null ? Py_NewRef(Py_None) : part_of(part, key, at, width);
            if (out[part->place] == NULL)
                return DECLINED;
        }
        at += width;
        size -= width;
    }
    return size == 0 ? DONE : DECLINED;
}

/* ------------------------------------------------------------------------------------------ values */

typedef struct {
    const unsigned char *at, *end;
} Packed;

static uint64_t big_endian(const unsigned char *at, int width)
{
    uint64_t number = 0;
    for (int byte = 0; byte < width; byte++)
        number = number << 8 | at[byte];
    return number;
}

/* Take `width` bytes as a number; DECLINED if there are fewer. */
static int taken(Packed *packed, int width, uint64_t *number)
{
    if (packed->end - packed->at < width)
        return DECLINED;
    *number = big_endian(packed->at, width);
    packed->at += width;
    return DONE;
}

static int unpack_integer(Packed *packed, int *negative, uint64_t *number)
{
    unsigned char head;
    int width;
    if (packed->at >= packed->end)
        return DECLINED;
    head = *packed->at++;
    *negative = 0;
    if (head < 0x80) {
        *number = head;
        return DONE;
    }
    if (head >= 0xe0) {
        *negative = 1;
        *number = (uint64_t)(int64_t)(int8_t)head;
        return DONE;
    }
    if (head < 0xcc || head > 0xd3)
        return DECLINED;
    width = 1 << (head & 3);
    if (taken(packed, width, number) != DONE)
        return DECLINED;
    if (head >= 0xd0) {
        if (width < 8 && *number >> (8 * width - 1))
            *number |= ~(uint64_t)0 << (8 * width);
        *negative = (int64_t)*number < 0;
    }
    return DONE;
}

/* The bytes of a string ('t') or a binary ('b'). */
static int unpack_bytes(Packed *packed, char form, const unsigned char **bytes, Py_ssize_t *size)
{
    unsigned char head;
    uint64_t length;
    if (packed->at >= packed->end)
        return DECLINED;
    head = *packed->at++;
    if (form == 't' && head >= 0xa0 && head < 0xc0)
        length = head & 0x1f;
    else if (form == 't' && head >= 0xd9 && head <= 0xdb) {
        if (taken(packed, 1 << (head - 0xd9), &length) != DONE)
            return DECLINED;
    } else if (form == 'b' && head >= 0xc4 && head <= 0xc6) {
        if (taken(packed, 1 << (head - 0xc4), &length) != DONE)
            return DECLINED;
    } else
        return DECLINED;
    if ((uint64_t)(packed->end - packed->at) < length)
        return DECLINED;
    *bytes = packed->at;
    *size = (Py_ssize_t)length;
    packed->at += length;
    return DONE;
}

/* Step over one thing, whatever it is. Depth needs no bound, as nothing is called for what nests: it is counted. */
static int step_over(Packed *packed)
{
    uint64_t left = 1, number;
    while (left > 0) {
        unsigned char head;
        uint64_t size = 0;
        if (packed->at >= packed->end)
            return DECLINED;
        head = *packed->at++;
        left--;
        if (head < 0x80 || head >= 0xe0 || head == 0xc0 || head == 0xc2 || head == 0xc3)
            continue;
        if (head < 0x90)
            left += 2 * (uint64_t)(head & 0x0f);
        else if (head < 0xa0)
            left += head & 0x0f;
        else if (head < 0xc0)
            size = head & 0x1f;
        else if (head >= 0xc4 && head <= 0xc6) { /* bin */
            if (taken(packed, 1 << (head - 0xc4), &size) != DONE)
                return DECLINED;
        } else if (head >= 0xc7 && head <= 0xc9) { /* ext */
            if (taken(packed, 1 << (head - 0xc7), &size) != DONE)
                return DECLINED;
            size++;
        } else if (head == 0xca)
            size = 4;
        else if (head == 0xcb)
            size = 8;
        else if (head >= 0xcc && head <= 0xd3)
            size = (uint64_t)1 << (head & 3);
        else if (head >= 0xd4 && head <= 0xd8) /* fixext */
            size = ((uint64_t)1 << (head - 0xd4)) + 1;
        else if (head >= 0xd9 && head <= 0xdb) { /* str */
            if (taken(packed, 1 << (head - 0xd9), &size) != DONE)
                return DECLINED;
        } else if (head >= 0xdc && head <= 0xdf) { /* array, map */
            if (taken(packed, head & 1 ? 4 : 2, &number) != DONE)
                return DECLINED;
            left += head >= 0xde ? 2 * number : number;
        } else
            return DECLINED;
        if ((uint64_t)(packed->end - packed->at) < size || left > (uint64_t)(packed->end - packed->at))
            return DECLINED;
        packed->at += size;
    }
    return DONE;
}

/* What form a value of SQL's has; 0 if it is none. */
static char dynamic_form(const Packed *packed)
{
    unsigned char head;
    if (packed->at >= packed->end)
        return 0;
    head = *packed->at;
    if (head < 0x80 || head >= 0xe0 || (head >= 0xcc && head <= 0xd3))
        return 'i';
    if ((head >= 0xa0 && head < 0xc0) || (head >= 0xd9 && head <= 0xdb))
        return 't';
    return head == 0xcb ? 'f' : head >= 0xc4 && head <= 0xc6 ? 'b' : 0;
}

/* Read one field; *out is a new reference, if `out` is not NULL. */
static int unpack(const Field *field, Packed *packed, PyObject **out)
{
    PyObject *found = NULL;
    char form = field->form;
    if (packed->at < packed->end && *packed->at == 0xc0 && field->nullable) {
        packed->at++;
        if (out != NULL)
            *out = Py_NewRef(Py_None);
        return DONE;
    }
    if (form == 'd' && (form = dynamic_form(packed)) == 0)
        return DECLINED;
    switch (form) {
    case 'i': {
        int negative;
        uint64_t number;
        if (unpack_integer(packed, &negative, &number) != DONE)
            return DECLINED;
        if (field->form == 'd') {
            ; /* of any size */
        } else if (negative ? (int64_t)number < field->low
                            : number > field->high || (field->low > 0 && number < (uint64_t)field->low))
            return DECLINED;
        if (out != NULL)
            found = negative ? PyLong_FromLongLong((int64_t)number) : PyLong_FromUnsignedLongLong(number);
        break;
    }
    case 'b':
    case 't':
    case 'n': {
        const unsigned char *bytes;
        Py_ssize_t size;
        if (unpack_bytes(packed, form == 'b' ? 'b' : 't', &bytes, &size) != DONE)
            return DECLINED;
        if (form == 'b') {
            if (size < field->low || (uint64_t)size > field->high)
                return DECLINED;
            if (out != NULL)
                found = PyBytes_FromStringAndSize((const char *)bytes, size);
        } else if (out != NULL) {
            found = PyUnicode_DecodeUTF8((const char *)bytes, size, NULL);
            if (found != NULL && (uint64_t)PyUnicode_GetLength(found) > field->high) {
                Py_DECREF(found);
                return DECLINED;
            }
        }
        break;
    }
    case '?':
        if (packed->at >= packed->end || (*packed->at != 0xc2 && *packed->at != 0xc3))
            return DECLINED;
        if (out != NULL)
            found = PyBool_FromLong(*packed->at == 0xc3);
        packed->at++;
        break;
    case 'f': {
        uint64_t bits;
        double number;
        if (packed->at >= packed->end || *packed->at++ != 0xcb || taken(packed, 8, &bits) != DONE)
            return DECLINED;
        memcpy(&number, &bits, sizeof number);
        if (out != NULL)
            found = PyFloat_FromDouble(number);
        break;
    }
    default: {
        const unsigned char *began = packed->at;
        if (step_over(packed) != DONE)
            return DECLINED;
        if (out != NULL)
            found = PyBytes_FromStringAndSize((const char *)began, packed->at - began);
    }
    }
    if (out == NULL)
        return DONE;
    if (found != NULL && field->load != NULL) {
        PyObject *raw = found;
        if (field->form == 'n')
            found = Py_XNewRef(PyDict_GetItemWithError(field->load, raw));
        else
            found = PyObject_CallFunctionObjArgs(field->load, raw, NULL);
        Py_DECREF(raw);
    }
    *out = found;
    return found == NULL ? DECLINED : DONE;
}

static int decode_value(const Decoder *self, PyObject *value, const char *wanted, PyObject **out)
{
    char *bytes;
    Py_ssize_t size;
    Packed packed;
    uint64_t fields;
    unsigned char head;
    if (!self->valued)
        return DONE;
    if (PyBytes_AsStringAndSize(value, &bytes, &size) < 0 || size <= self->head ||
        memcmp(bytes, self->header, (size_t)self->head) != 0)
        return DECLINED;
    packed.at = (const unsigned char *)bytes + self->head;
    packed.end = (const unsigned char *)bytes + size;
    head = *packed.at++;
    if (head >= 0x90 && head < 0xa0)
        fields = head & 0x0f;
    else if (head != 0xdc || taken(&packed, 2, &fields) != DONE)
        return DECLINED;
    if (fields != (uint64_t)self->fields)
        return DECLINED;
    for (int number = self->parts; number < self->parts + self->fields; number++) {
        const Field *field = &self->field[number];
        int place = field->place, needed = place >= 0 && out[place] == NULL && (wanted == NULL || wanted[place]);
        int done = unpack(field, &packed, needed ? &out[place] : NULL);
        if (done != DONE)
            return done;
    }
    return packed.at == packed.end ? DONE : DECLINED;
}

/* The columns of a pair, in `out`: new references where `wanted` says so, or all. DECLINED: nothing, and no exception. */
static int decode(const Decoder *self, PyObject *key, PyObject *value, const char *wanted, PyObject **out)
{
    int done;
    memset(out, 0, sizeof(PyObject *) * (size_t)self->count);
    done = decode_key(self, key, wanted, out);
    if (done == DONE)
        done = decode_value(self, value, wanted, out);
    if (done == DONE)
        return DONE;
    for (int place = 0; place < self->count; place++)
        Py_CLEAR(out[place]);
    if (!PyErr_Occurred())
        return DECLINED;
    /* The generated code meets the same, and words it. */
    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError))
        return FAILED;
    PyErr_Clear();
    return DECLINED;
}

/* ------------------------------------------------------------------------------------------ Decoder */

static int pair_of(PyObject *pair, PyObject **key, PyObject **value)
{
    if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
        PyErr_Format(PyExc_TypeError, "a pair is a tuple of key and value, not %.80R", pair);
        return -1;
    }
    *key = PyTuple_GetItem(pair, 0);
    *value = PyTuple_GetItem(pair, 1);
    return 0;
}

PyDoc_STRVAR(decode_doc, "decode(key, value)\n--\n\nThe row of a pair.");

static PyObject *Decoder_decode(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Decoder *self = (Decoder *)object;
    PyObject *out[MOST], *row;
    int done;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "decode(key, value)");
        return NULL;
    }
    done = decode(self, args[0], args[1], NULL, out);
    if (done == FAILED)
        return NULL;
    if (done == DECLINED)
        return PyObject_CallFunctionObjArgs(self->otherwise, args[0], args[1], NULL);
    row = PyTuple_New(self->count);
    for (int place = 0; place < self->count; place++) {
        if (row == NULL)
            Py_DECREF(out[place]);
        else
            PyTuple_SetItem(row, place, out[place]);
    }
    return row;
}

/* Of one pair the columns at `places`, as a tuple, or the only one itself. */
static PyObject *chosen(const Decoder *self, PyObject *key, PyObject *value, const char *wanted, const int *places,
                        int count, int bare)
{
    PyObject *out[MOST], *row = NULL, *made;
    int done = decode(self, key, value, wanted, out);
    if (done == FAILED)
        return NULL;
    if (done == DECLINED) {
        row = PyObject_CallFunctionObjArgs(self->otherwise, key, value, NULL);
        if (row == NULL)
            return NULL;
        for (int place = 0; place < self->count; place++)
            out[place] = Py_XNewRef(PyTuple_GetItem(row, place));
        Py_DECREF(row);
        if (PyErr_Occurred()) {
            for (int place = 0; place < self->count; place++)
                Py_XDECREF(out[place]);
            return NULL;
        }
    }
    if (bare) {
        made = Py_NewRef(out[places[0]]);
    } else {
        made = PyTuple_New(count);
        for (int number = 0; made != NULL && number < count; number++)
            PyTuple_SetItem(made, number, Py_NewRef(out[places[number]]));
    }
    for (int place = 0; place < self->count; place++)
        Py_XDECREF(out[place]);
    return made;
}

PyDoc_STRVAR(columns_doc, "columns(pairs, places, bare)\n--\n\n"
                          "Of each pair the columns at these places, as a tuple; if bare the only one, as it is.");

static PyObject *Decoder_columns(PyObject *object, PyObject *args)
{
    Decoder *self = (Decoder *)object;
    PyObject *pairs, *given, *found, *pair;
    int places[MOST], bare;
    char wanted[MOST] = {0};
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "OO!p", &pairs, &PyTuple_Type, &given, &bare))
        return NULL;
    count = PyTuple_Size(given);
    if (count > MOST || (bare && count != 1)) {
        PyErr_SetString(PyExc_ValueError, "too many places");
        return NULL;
    }
    for (Py_ssize_t number = 0; number < count; number++) {
        long place = PyLong_AsLong(PyTuple_GetItem(given, number));
        if (place < 0 || place >= self->count) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_IndexError, "a row of %d columns has none at %ld", self->count, place);
            return NULL;
        }
        places[number] = (int)place;
        wanted[place] = 1;
    }
    pairs = PyObject_GetIter(pairs);
    found = pairs == NULL ? NULL : PyList_New(0);
    while (found != NULL && (pair = PyIter_Next(pairs)) != NULL) {
        PyObject *key, *value, *made = NULL;
        if (pair_of(pair, &key, &value) == 0)
            made = chosen(self, key, value, wanted, places, (int)count, bare);
        Py_DECREF(pair);
        if (made == NULL || PyList_Append(found, made) < 0)
            Py_CLEAR(found);
        Py_XDECREF(made);
    }
    Py_XDECREF(pairs);
    if (PyErr_Occurred())
        Py_CLEAR(found);
    return found;
}

static int Decoder_traverse(PyObject *object, visitproc visit, void *arg)
{
    Decoder *self = (Decoder *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->otherwise);
    for (int number = 0; number < MOST; number++)
        Py_VISIT(self->field[number].load);
    return 0;
}

static int Decoder_clear(PyObject *object)
{
    Decoder *self = (Decoder *)object;
    Py_CLEAR(self->otherwise);
    for (int number = 0; number < MOST; number++)
        Py_CLEAR(self->field[number].load);
    return 0;
}

static void released(PyObject *object, inquiry clear)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    clear(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static void Decoder_dealloc(PyObject *object) { released(object, Decoder_clear); }

PyDoc_STRVAR(Decoder_doc, "Decoder(count, parts, header, fields, otherwise)\n--\n\n"
                          "Makes rows of pairs; see kvdialect/schema/compiled.py for its arguments.");

static PyObject *Decoder_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    int count;
    PyObject *parts, *header, *fields, *otherwise;
    Decoder *self;
    (void)named;
    if (!PyArg_ParseTuple(args, "iO!OO!O", &count, &PyTuple_Type, &parts, &header, &PyTuple_Type, &fields, &otherwise))
        return NULL;
    if (count < 1 || count > MOST || PyTuple_Size(parts) + PyTuple_Size(fields) > MOST) {
        PyErr_Format(PyExc_ValueError, "rows of 1 to %d columns are decoded here", MOST);
        return NULL;
    }
    self = (Decoder *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->count = count;
    self->otherwise = Py_NewRef(otherwise);
    self->valued = header != Py_None;
    if (self->valued) {
        char *bytes;
        if (PyBytes_AsStringAndSize(header, &bytes, &self->head) < 0 || self->head > (Py_ssize_t)sizeof self->header) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "the header is too long");
            Py_DECREF(self);
            return NULL;
        }
        memcpy(self->header, bytes, (size_t)self->head);
    }
    for (int number = 0; number < (int)PyTuple_Size(parts); number++) {
        if (field_of(PyTuple_GetItem(parts, number), 1, count, &self->field[number]) < 0) {
            Py_DECREF(self);
            return NULL;
        }
        self->parts++;
    }
    for (int number = 0; number < (int)PyTuple_Size(fields); number++) {
        if (field_of(PyTuple_GetItem(fields, number), 0, count, &self->field[self->parts + number]) < 0) {
            Py_DECREF(self);
            return NULL;
        }
        self->fields++;
    }
    for (int place = 0; place < count; place++) {
        int filled = 0;
        for (int number = 0; number < self->parts + self->fields; number++)
            filled |= self->field[number].place == place && (number < self->parts || self->valued);
        if (!filled) {
            PyErr_Format(PyExc_ValueError, "nothing fills the column at %d", place);
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static PyMethodDef Decoder_methods[] = {
    {"decode", (PyCFunction)(void (*)(void))Decoder_decode, METH_FASTCALL, decode_doc},
    {"columns", Decoder_columns, METH_VARARGS, columns_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot Decoder_slots[] = {
    {Py_tp_doc, (void *)Decoder_doc},
    {Py_tp_new, Decoder_new},
    {Py_tp_dealloc, Decoder_dealloc},
    {Py_tp_traverse, Decoder_traverse},
    {Py_tp_clear, Decoder_clear},
    {Py_tp_methods, Decoder_methods},
    {0, NULL},
};

static PyType_Spec Decoder_spec = {
    "kvdialect.schema._rows.Decoder", sizeof(Decoder), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, Decoder_slots,
};

/* ------------------------------------------------------------------------------------------ Loader */

typedef struct {
    PyObject *slot;   /* the descriptor of an attribute */
    descrsetfunc set; /* its tp_descr_set */
} Slot;

typedef struct {
    PyObject_HEAD
    Decoder *decoder;
    PyTypeObject *made;  /* the record class */
    Slot slots[MOST + 3]; /* of the columns, and of tracker, key and value behind them */
    int mutable_;        /* objects are held in identity.kept */
    PyObject *otherwise; /* otherwise(key, value, identity, tracker) -> object */
    PyObject *revive;    /* revive(identity, key, value, tracker) -> object or None */
} Loader;

static PyObject *name_live, *name_stale, *name_limit, *name_kept, *name_purge;

static PyTypeObject *decoder_type;

static int set_slot(const Slot *slot, PyObject *object, PyObject *value) { return slot->set(slot->slot, object, value); }

/* A new object of a pair, which is in `live` afterwards. */
static PyObject *new_object(Loader *self, PyObject *key, PyObject *value, PyObject *identity, PyObject *live,
                            PyObject *tracker)
{
    PyObject *out[MOST], *object, *weak;
    int count = self->decoder->count, done = decode(self->decoder, key, value, NULL, out);
    if (done == FAILED)
        return NULL;
    if (done == DECLINED)
        return PyObject_CallFunctionObjArgs(self->otherwise, key, value, identity, tracker, NULL);
    object = ((allocfunc)PyType_GetSlot(self->made, Py_tp_alloc))(self->made, 0);
    for (int place = 0; place < count; place++) {
        if (object != NULL && set_slot(&self->slots[place], object, out[place]) < 0)
            Py_CLEAR(object);
        Py_DECREF(out[place]);
    }
    if (object == NULL)
        return NULL;
    weak = NULL;
    if (set_slot(&self->slots[count], object, tracker) < 0 || set_slot(&self->slots[count + 1], object, key) < 0 ||
        set_slot(&self->slots[count + 2], object, value) < 0 || (weak = PyWeakref_NewRef(object, NULL)) == NULL ||
        PyDict_SetItem(live, key, weak) < 0)
        Py_CLEAR(object);
    Py_XDECREF(weak);
    if (object != NULL && self->mutable_) {
        PyObject *kept = PyObject_GetAttr(identity, name_kept);
        if (kept == NULL || PyObject_SetItem(kept, key, object) < 0)
            Py_CLEAR(object);
        Py_XDECREF(kept);
    }
    return object;
}

/* The object of a pair whose key may be that of an object of an earlier transaction. */
static PyObject *object_of(Loader *self, PyObject *key, PyObject *value, PyObject *identity, PyObject *live,
                           PyObject *stale, PyObject *tracker)
{
    if (PyDict_Size(stale) > 0) {
        int held = PyDict_Contains(stale, key);
        if (held < 0)
            return NULL;
        if (held) {
            PyObject *found = PyObject_CallFunctionObjArgs(self->revive, identity, key, value, tracker, NULL);
            if (found != Py_None)
                return found;
            Py_DECREF(found);
        }
    }
    return new_object(self, key, value, identity, live, tracker);
}

/* Forget dead references, if there are many. */
static int purged(PyObject *identity, PyObject *live)
{
    PyObject *limit = PyObject_GetAttr(identity, name_limit), *none;
    Py_ssize_t most;
    if (limit == NULL)
        return -1;
    most = PyLong_AsSsize_t(limit);
    Py_DECREF(limit);
    if (most == -1 && PyErr_Occurred())
        return -1;
    if (PyDict_Size(live) <= most)
        return 0;
    none = PyObject_CallMethodObjArgs(identity, name_purge, NULL);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

static int maps_of(PyObject *identity, PyObject **live, PyObject **stale)
{
    *live = PyObject_GetAttr(identity, name_live);
    *stale = *live == NULL ? NULL : PyObject_GetAttr(identity, name_stale);
    if (*stale == NULL || !PyDict_Check(*live) || !PyDict_Check(*stale)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "an identity map has two dicts");
        Py_CLEAR(*live);
        Py_CLEAR(*stale);
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(load_doc, "load(pairs, identity, tracker)\n--\n\nFor each pair the object of its key.");

static PyObject *Loader_load(PyObject *loader, PyObject *const *args, Py_ssize_t count)
{
    Loader *self = (Loader *)loader;
    PyObject *live, *stale, *pairs, *objects, *pair;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "load(pairs, identity, tracker)");
        return NULL;
    }
    if (maps_of(args[1], &live, &stale) < 0)
        return NULL;
    pairs = PyObject_GetIter(args[0]);
    objects = pairs == NULL ? NULL : PyList_New(0);
    while (objects != NULL && (pair = PyIter_Next(pairs)) != NULL) {
        PyObject *key, *value, *found, *object = NULL;
        if (pair_of(pair, &key, &value) == 0) {
            found = PyDict_GetItemWithError(live, key);
            if (found != NULL) {
                object = PyWeakref_GetObject(found); /* the stable ABI has no newer one before 3.13 */
                object = object == Py_None ? NULL : Py_XNewRef(object);
            }
            if (object == NULL && !PyErr_Occurred())
                object = object_of(self, key, value, args[1], live, stale, args[2]);
        }
        Py_DECREF(pair);
        if (object == NULL || PyList_Append(objects, object) < 0)
            Py_CLEAR(objects);
        Py_XDECREF(object);
    }
    Py_XDECREF(pairs);
    if (PyErr_Occurred() || (objects != NULL && purged(args[1], live) < 0))
        Py_CLEAR(objects);
    Py_DECREF(live);
    Py_DECREF(stale);
    return objects;
}

PyDoc_STRVAR(load_one_doc, "load_one(key, value, identity, tracker)\n--\n\nThe object of a key that is not live.");

static PyObject *Loader_load_one(PyObject *loader, PyObject *const *args, Py_ssize_t count)
{
    PyObject *live, *stale, *object;
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "load_one(key, value, identity, tracker)");
        return NULL;
    }
    if (maps_of(args[2], &live, &stale) < 0)
        return NULL;
    object = object_of((Loader *)loader, args[0], args[1], args[2], live, stale, args[3]);
    if (object != NULL && purged(args[2], live) < 0)
        Py_CLEAR(object);
    Py_DECREF(live);
    Py_DECREF(stale);
    return object;
}

PyDoc_STRVAR(enter_doc, "enter(objects, pairs, identity)\n--\n\nMake new objects those of the records of pairs.");

static PyObject *Loader_enter(PyObject *loader, PyObject *const *args, Py_ssize_t count)
{
    Loader *self = (Loader *)loader;
    const Slot *slot = &self->slots[self->decoder->count + 1]; /* of the key, and behind it of the value */
    PyObject *live, *stale, *kept = NULL;
    Py_ssize_t size;
    int failed = 0;
    if (count != 3 || !PyList_Check(args[0]) || !PyList_Check(args[1]) ||
        (size = PyList_Size(args[0])) != PyList_Size(args[1])) {
        PyErr_SetString(PyExc_TypeError, "enter(objects, pairs, identity), as many objects as pairs, in lists");
        return NULL;
    }
    if (maps_of(args[2], &live, &stale) < 0)
        return NULL;
    if (self->mutable_ && (kept = PyObject_GetAttr(args[2], name_kept)) == NULL)
        failed = 1;
    for (Py_ssize_t at = 0; !failed && at < size; at++) {
        PyObject *object = PyList_GetItem(args[0], at), *key, *value, *weak;
        if (pair_of(PyList_GetItem(args[1], at), &key, &value) < 0) {
            failed = 1;
            break;
        }
        weak = PyWeakref_NewRef(object, NULL);
        failed = weak == NULL || set_slot(&slot[0], object, key) < 0 || set_slot(&slot[1], object, value) < 0 ||
                 PyDict_SetItem(live, key, weak) < 0 || (kept != NULL && PyObject_SetItem(kept, key, object) < 0);
        Py_XDECREF(weak);
        if (!failed && PyDict_Size(stale) > 0) {
            int held = PyDict_Contains(stale, key);
            failed = held < 0 || (held > 0 && PyDict_DelItem(stale, key) < 0);
        }
    }
    Py_XDECREF(kept);
    Py_DECREF(live);
    Py_DECREF(stale);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static int Loader_traverse(PyObject *object, visitproc visit, void *arg)
{
    Loader *self = (Loader *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->decoder);
    Py_VISIT(self->made);
    Py_VISIT(self->otherwise);
    Py_VISIT(self->revive);
    for (int number = 0; number < MOST + 3; number++)
        Py_VISIT(self->slots[number].slot);
    return 0;
}

static int Loader_clear(PyObject *object)
{
    Loader *self = (Loader *)object;
    Py_CLEAR(self->decoder);
    Py_CLEAR(self->made);
    Py_CLEAR(self->otherwise);
    Py_CLEAR(self->revive);
    for (int number = 0; number < MOST + 3; number++)
        Py_CLEAR(self->slots[number].slot);
    return 0;
}

static void Loader_dealloc(PyObject *object) { released(object, Loader_clear); }

PyDoc_STRVAR(Loader_doc, "Loader(decoder, cls, slots, mutable, otherwise, revive)\n--\n\n"
                         "Makes objects of pairs; see kvdialect/orm/loading.py for its arguments.");

static PyObject *Loader_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    PyObject *decoder, *made, *slots, *otherwise, *revive;
    int mutable_;
    Loader *self;
    (void)named;
    if (!PyArg_ParseTuple(args, "O!O!O!pOO", decoder_type, &decoder, &PyType_Type, &made, &PyTuple_Type, &slots,
                          &mutable_, &otherwise, &revive))
        return NULL;
    if (PyTuple_Size(slots) != ((Decoder *)decoder)->count + 3) {
        PyErr_SetString(PyExc_ValueError, "a slot for each column, and three more");
        return NULL;
    }
    self = (Loader *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->decoder = (Decoder *)Py_NewRef(decoder);
    self->made = (PyTypeObject *)Py_NewRef(made);
    self->mutable_ = mutable_;
    self->otherwise = Py_NewRef(otherwise);
    self->revive = Py_NewRef(revive);
    for (int number = 0; number < (int)PyTuple_Size(slots); number++) {
        Slot *slot = &self->slots[number];
        slot->slot = Py_NewRef(PyTuple_GetItem(slots, number));
        slot->set = (descrsetfunc)PyType_GetSlot(Py_TYPE(slot->slot), Py_tp_descr_set);
        if (slot->set == NULL) {
            PyErr_Format(PyExc_TypeError, "%.80R is no slot", slot->slot);
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static PyMethodDef Loader_methods[] = {
    {"load", (PyCFunction)(void (*)(void))Loader_load, METH_FASTCALL, load_doc},
    {"load_one", (PyCFunction)(void (*)(void))Loader_load_one, METH_FASTCALL, load_one_doc},
    {"enter", (PyCFunction)(void (*)(void))Loader_enter, METH_FASTCALL, enter_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot Loader_slots[] = {
    {Py_tp_doc, (void *)Loader_doc},
    {Py_tp_new, Loader_new},
    {Py_tp_dealloc, Loader_dealloc},
    {Py_tp_traverse, Loader_traverse},
    {Py_tp_clear, Loader_clear},
    {Py_tp_methods, Loader_methods},
    {0, NULL},
};

static PyType_Spec Loader_spec = {
    "kvdialect.schema._rows.Loader", sizeof(Loader), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, Loader_slots,
};

/* ------------------------------------------------------------------------------------------ attributes */

static PyObject *name_kv;

PyDoc_STRVAR(setter_doc, "Set an attribute, and note the object in its tracker.");

/* The __setattr__ of a record class whose attrs class has none of its own. */
static PyObject *set_attribute(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *tracker, *ident;
    int failed = 0;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "__setattr__(name, value)");
        return NULL;
    }
    if (PyObject_GenericSetAttr(self, args[0], args[1]) < 0)
        return NULL;
    tracker = PyObject_GenericGetAttr(self, name_kv);
    if (tracker == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return NULL;
        PyErr_Clear(); /* not yet initialised */
        Py_RETURN_NONE;
    }
    if (tracker != Py_None) {
        ident = PyLong_FromVoidPtr(self);
        failed = ident == NULL || PyObject_SetItem(tracker, ident, self) < 0;
        Py_XDECREF(ident);
    }
    Py_DECREF(tracker);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef setter_method = {
    "__setattr__", (PyCFunction)(void (*)(void))set_attribute, METH_FASTCALL, setter_doc,
};

/* ------------------------------------------------------------------------------------------ the module */

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_rows", "Rows in C; see kvdialect/schema/compiled.py.", -1, NULL, NULL, NULL, NULL, NULL,
};

static int add_type(PyObject *module, const char *name, PyType_Spec *spec, PyTypeObject **kept)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type == NULL)
        return -1;
    if (kept != NULL)
        *kept = (PyTypeObject *)Py_NewRef(type);
    if (PyModule_AddObjectRef(module, name, type) < 0) {
        Py_DECREF(type);
        return -1;
    }
    Py_DECREF(type);
    return 0;
}

PyMODINIT_FUNC PyInit__rows(void)
{
    PyObject *module = PyModule_Create(&definition), *descriptor;
    if (module == NULL)
        return NULL;
    name_live = PyUnicode_InternFromString("live");
    name_stale = PyUnicode_InternFromString("stale");
    name_limit = PyUnicode_InternFromString("limit");
    name_kept = PyUnicode_InternFromString("kept");
    name_purge = PyUnicode_InternFromString("purge");
    name_kv = PyUnicode_InternFromString("_kv");
    descriptor = PyDescr_NewMethod(&PyBaseObject_Type, &setter_method);
    if (name_live == NULL || name_stale == NULL || name_limit == NULL || name_kept == NULL || name_purge == NULL ||
        name_kv == NULL || descriptor == NULL || PyModule_AddObjectRef(module, "setter", descriptor) < 0 ||
        add_type(module, "Decoder", &Decoder_spec, &decoder_type) < 0 ||
        add_type(module, "Loader", &Loader_spec, NULL) < 0 || PyModule_AddIntConstant(module, "MOST", MOST) < 0) {
        Py_XDECREF(descriptor);
        Py_DECREF(module);
        return NULL;
    }
    Py_DECREF(descriptor);
    return module;
}
