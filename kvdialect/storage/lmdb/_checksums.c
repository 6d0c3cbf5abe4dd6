/* Values with checksums in C: what kvdialect/storage/lmdb/checksums.py does with the xxhash package, many at a time.
 *
 * A checksum is XXH32 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md) of key and value, with the family's
 * seed, in four bytes, big-endian, behind the value. Only functions of Python's stable ABI (3.11) are used.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define CHECKSUM 4

static const uint32_t PRIME1 = 0x9E3779B1U, PRIME2 = 0x85EBCA77U, PRIME3 = 0xC2B2AE3DU, PRIME4 = 0x27D4EB2FU,
                      PRIME5 = 0x165667B1U;

static uint32_t rotated(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

static uint32_t word(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void stripe(uint32_t lanes[4], const unsigned char *at)
{
    for (int lane = 0; lane < 4; lane++)
        lanes[lane] = rotated(lanes[lane] + word(at + 4 * lane) * PRIME2, 13) * PRIME1;
}

/* XXH32 of two pieces, one behind the other. */
static uint32_t xxh32(const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size,
                      uint32_t seed)
{
    size_t size = first_size + second_size, rest = size % 16;
    uint32_t lanes[4] = {seed + PRIME1 + PRIME2, seed + PRIME2, seed, seed - PRIME1}, hash;
    unsigned char seam[16]; /* a stripe with bytes of both pieces, and the bytes behind the last stripe */
    size_t from_first = first_size, from_second = second_size;
    for (; from_first >= 16; from_first -= 16, first += 16)
        stripe(lanes, first);
    if (from_first > 0 && from_first + from_second >= 16) {
        size_t taken = 16 - from_first;
        memcpy(seam, first, from_first);
        memcpy(seam + from_first, second, taken);
        stripe(lanes, seam);
        from_first = 0;
        second += taken;
        from_second -= taken;
    }
    for (; from_first == 0 && from_second >= 16; from_second -= 16, second += 16)
        stripe(lanes, second);
    if (from_first > 0)
        memcpy(seam, first, from_first);
    if (from_second > 0)
        memcpy(seam + from_first, second, from_second);
    if (size >= 16)
        hash = rotated(lanes[0], 1) + rotated(lanes[1], 7) + rotated(lanes[2], 12) + rotated(lanes[3], 18);
    else
        hash = seed + PRIME5;
    hash += (uint32_t)size;
    const unsigned char *at = seam;
    for (; rest >= 4; rest -= 4, at += 4)
        hash = rotated(hash + word(at) * PRIME3, 17) * PRIME4;
    for (; rest > 0; rest--, at++)
        hash = rotated(hash + *at * PRIME5, 11) * PRIME1;
    hash = (hash ^ hash >> 15) * PRIME2;
    hash = (hash ^ hash >> 13) * PRIME3;
    return hash ^ hash >> 16;
}

static uint32_t stored(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | (uint32_t)at[3];
}

/* ------------------------------------------------------------------------------------------ one pair */

/* The value in raw, as a new object, if its checksum holds; NULL without an error if not. */
static PyObject *value_of(PyObject *key, Py_ssize_t skip, PyObject *raw, uint32_t seed)
{
    char *name, *bytes;
    Py_ssize_t name_size, size;
    if (PyBytes_AsStringAndSize(key, &name, &name_size) < 0 || PyBytes_AsStringAndSize(raw, &bytes, &size) < 0)
        return NULL;
    size -= CHECKSUM;
    if (size < 0 || name_size < skip)
        return NULL;
    if (xxh32((unsigned char *)name + skip, (size_t)(name_size - skip), (unsigned char *)bytes, (size_t)size, seed) !=
        stored((unsigned char *)bytes + size))
        return NULL;
    return PyBytes_FromStringAndSize(bytes, size);
}

static PyObject *refused(Py_ssize_t at)
{
    if (!PyErr_Occurred()) {
        PyObject *number = PyLong_FromSsize_t(at);
        if (number != NULL)
            PyErr_SetObject(PyExc_ValueError, number);
        Py_XDECREF(number);
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------ Python's functions */

PyDoc_STRVAR(value_doc, "value(key, raw, seed)\n--\n\nThe value in raw; ValueError if its checksum does not hold.");

static PyObject *value(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *found;
    unsigned long seed;
    (void)self;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "value(key, raw, seed)");
        return NULL;
    }
    seed = PyLong_AsUnsignedLong(args[2]);
    if (seed == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    found = value_of(args[0], 0, args[1], (uint32_t)seed);
    return found == NULL ? refused(0) : found;
}

PyDoc_STRVAR(values_doc, "values(keys, raws, seed)\n--\n\nThe values in a list of raws, where a None stays one.");

static PyObject *values(PyObject *self, PyObject *args)
{
    PyObject *keys, *raws;
    unsigned int seed;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!I", &PyList_Type, &keys, &PyList_Type, &raws, &seed))
        return NULL;
    Py_ssize_t count = PyList_Size(raws);
    PyObject *found = PyList_New(count);
    for (Py_ssize_t at = 0; found != NULL && at < count; at++) {
        PyObject *raw = PyList_GetItem(raws, at), *key = PyList_GetItem(keys, at), *item;
        if (raw == NULL || key == NULL) {
            item = NULL;
        } else if (raw == Py_None) {
            Py_INCREF(raw);
            item = raw;
        } else {
            item = value_of(key, 0, raw, seed);
        }
        if (item == NULL || PyList_SetItem(found, at, item) < 0) {
            Py_DECREF(found);
            return refused(at);
        }
    }
    return found;
}

PyDoc_STRVAR(pairs_doc, "pairs(stored, tagged, seed)\n--\n\nThe keys and values of a list of stored pairs.");

static PyObject *pairs(PyObject *self, PyObject *args)
{
    PyObject *list;
    Py_ssize_t tagged;
    unsigned int seed;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!nI", &PyList_Type, &list, &tagged, &seed))
        return NULL;
    Py_ssize_t count = PyList_Size(list);
    PyObject *found = PyList_New(count);
    for (Py_ssize_t at = 0; found != NULL && at < count; at++) {
        PyObject *stored_pair = PyList_GetItem(list, at), *pair = NULL, *item = NULL, *key;
        PyObject *name = PyTuple_GetItem(stored_pair, 0), *raw = name == NULL ? NULL : PyTuple_GetItem(stored_pair, 1);
        if (raw != NULL)
            item = value_of(name, tagged, raw, seed);
        if (item != NULL) {
            if (tagged) {
                key = PyBytes_FromStringAndSize(PyBytes_AsString(name) + tagged, PyBytes_Size(name) - tagged);
            } else {
                Py_INCREF(name);
                key = name;
            }
            if (key != NULL)
                pair = PyTuple_Pack(2, key, item);
            Py_XDECREF(key);
            Py_DECREF(item);
        }
        if (pair == NULL || PyList_SetItem(found, at, pair) < 0) {
            Py_DECREF(found);
            return refused(at);
        }
    }
    return found;
}

PyDoc_STRVAR(sealed_doc, "sealed(pairs, tag, seed)\n--\n\nA list of pairs as they are stored.");

static PyObject *sealed(PyObject *self, PyObject *args)
{
    PyObject *list, *tag_object;
    char *tag;
    Py_ssize_t tag_size;
    unsigned int seed;
    (void)self;
    /* No format with #: what it means differs between the versions that one build is for. */
    if (!PyArg_ParseTuple(args, "O!OI", &PyList_Type, &list, &tag_object, &seed) ||
        PyBytes_AsStringAndSize(tag_object, &tag, &tag_size) < 0)
        return NULL;
    Py_ssize_t count = PyList_Size(list);
    PyObject *found = PyList_New(count);
    for (Py_ssize_t at = 0; found != NULL && at < count; at++) {
        PyObject *given = PyList_GetItem(list, at), *key = NULL, *raw = NULL, *pair = NULL;
        PyObject *name = PyTuple_GetItem(given, 0), *item = name == NULL ? NULL : PyTuple_GetItem(given, 1);
        char *name_bytes, *bytes;
        Py_ssize_t name_size, size;
        if (item != NULL && PyBytes_AsStringAndSize(name, &name_bytes, &name_size) == 0 &&
            PyBytes_AsStringAndSize(item, &bytes, &size) == 0) {
            uint32_t hash = xxh32((unsigned char *)name_bytes, (size_t)name_size, (unsigned char *)bytes, (size_t)size,
                                  seed);
            raw = PyBytes_FromStringAndSize(NULL, size + CHECKSUM);
            if (raw != NULL) {
                char *target = PyBytes_AsString(raw);
                memcpy(target, bytes, (size_t)size);
                for (int byte = 0; byte < CHECKSUM; byte++)
                    target[size + byte] = (char)(hash >> (24 - 8 * byte));
            }
            if (tag_size) {
                key = PyBytes_FromStringAndSize(NULL, tag_size + name_size);
                if (key != NULL) {
                    memcpy(PyBytes_AsString(key), tag, (size_t)tag_size);
                    memcpy(PyBytes_AsString(key) + tag_size, name_bytes, (size_t)name_size);
                }
            } else {
                Py_INCREF(name);
                key = name;
            }
            if (raw != NULL && key != NULL)
                pair = PyTuple_Pack(2, key, raw);
            Py_XDECREF(key);
            Py_XDECREF(raw);
        }
        if (pair == NULL || PyList_SetItem(found, at, pair) < 0) {
            Py_DECREF(found);
            return NULL;
        }
    }
    return found;
}

PyDoc_STRVAR(nodes_doc, "nodes(page)\n--\n\nThe pairs of a leaf page; None if one is not within it, or its value in others.");

#define HEADER 16

/* See MDB_page and MDB_node in mdb.c; numbers are in the machine's own byte order. */
static PyObject *nodes(PyObject *self, PyObject *page)
{
    char *raw;
    Py_ssize_t size;
    uint16_t lower, offset, flags, key_size, halves[2];
    const uint16_t one = 1;
    int little = *(const unsigned char *)&one;
    (void)self;
    if (PyBytes_AsStringAndSize(page, &raw, &size) < 0)
        return NULL;
    if (size < HEADER || (memcpy(&lower, raw + 12, 2), lower < HEADER || lower > size))
        Py_RETURN_NONE;
    Py_ssize_t count = (lower - HEADER) / 2;
    PyObject *found = PyList_New(count);
    for (Py_ssize_t at = 0; found != NULL && at < count; at++) {
        memcpy(&offset, raw + HEADER + 2 * at, 2);
        if (offset < HEADER || offset + 8 > size)
            goto beyond;
        memcpy(halves, raw + offset, 4);
        memcpy(&flags, raw + offset + 4, 2);
        memcpy(&key_size, raw + offset + 6, 2);
        Py_ssize_t data = offset + 8 + (Py_ssize_t)key_size;
        uint32_t data_size = (uint32_t)halves[!little] | (uint32_t)halves[little] << 16;
        if (flags & 1 || data > size || data_size > (size_t)(size - data))
            goto beyond;
        PyObject *key = PyBytes_FromStringAndSize(raw + offset + 8, key_size);
        PyObject *item = PyBytes_FromStringAndSize(raw + data, (Py_ssize_t)data_size);
        PyObject *pair = key == NULL || item == NULL ? NULL : PyTuple_Pack(2, key, item);
        Py_XDECREF(key);
        Py_XDECREF(item);
        if (pair == NULL || PyList_SetItem(found, at, pair) < 0) {
            Py_DECREF(found);
            return NULL;
        }
    }
    return found;
beyond:
    Py_DECREF(found);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"nodes", nodes, METH_O, nodes_doc},
    {"pairs", pairs, METH_VARARGS, pairs_doc},
    {"sealed", sealed, METH_VARARGS, sealed_doc},
    {"value", (PyCFunction)(void (*)(void))value, METH_FASTCALL, value_doc},
    {"values", values, METH_VARARGS, values_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "kvdialect.storage.lmdb._checksums",
    .m_doc = "Values with checksums in C; see kvdialect/storage/lmdb/checksums.py.",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__checksums(void) { return PyModuleDef_Init(&definition); }
