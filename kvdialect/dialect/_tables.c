/* Virtual tables in C: what kvdialect/dialect/virtual.py does by way of apsw, without a call of Python for each row and
 * column.
 *
 * The file is a module of Python's and a loadable extension of SQLite's at once. Planning and writing call the table
 * object in virtual.py, as apsw does. Reading differs: a cursor takes rows from Python in batches, and notes the values
 * of the columns that the statement uses, so that SQLite's questions for the next row and its columns are answered
 * without the GIL. The first batch has one row and each further one four times as many, up to BATCH rows or BYTES bytes.
 *
 * An error of Python's stays set while SQLite unwinds; apsw raises it when it has returned. Only functions of Python's
 * stable ABI (3.11) are used.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

#include "_sqlite.h"

#define BATCH 512
#define BYTES (256 * 1024)
#define TOLD 63 /* SQLite tells the use of columns one by one up to here, and of all further ones together */

/* ------------------------------------------------------------------------------------------ SQLite's functions */

#define DECLARE(place, result, name, parameters) static result(*sql_##name) parameters;
SQLITE_FUNCTIONS(DECLARE)
#undef DECLARE

#ifdef _WIN32
__declspec(dllexport)
#else
__attribute__((visibility("default")))
#endif
int kvdialect_tables_init(sqlite3 *db, char **message, sqlite3_routines routines)
{
    (void)db;
    (void)message;
#define TAKE(place, result, name, parameters) sql_##name = (result(*) parameters)routines[place];
    SQLITE_FUNCTIONS(TAKE)
#undef TAKE
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------ tables and cursors */

typedef struct {
    sqlite3_vtab base;
    PyObject *table; /* virtual._Table */
    int width;       /* columns that SQL shows */
    int alias;       /* column that is the rowid; -1: the last item of a row */
    int rowid;       /* rows are told apart by a rowid */
} Table;

typedef struct {
    int kind; /* SQLITE_INTEGER...; 0: not looked at yet */
    int size;
    union {
        sqlite3_int64 integer;
        double real;
        const char *bytes; /* lives as long as the row */
    } value;
} Cell;

typedef struct {
    sqlite3_vtab_cursor base;
    PyObject *cursor;    /* virtual._Cursor */
    PyObject *rows;      /* what gives further rows, or NULL */
    PyObject *kept;      /* all rows of the table, by their rowids, or NULL */
    PyObject *batch[BATCH];
    Cell *cells;         /* width + 1 for each row: its columns, and what tells it apart */
    int room;            /* rows that cells has room for */
    int count;           /* rows in the batch */
    int at;              /* the present one */
    int size;            /* of the next batch */
    sqlite3_uint64 used; /* the columns that the statement uses */
    sqlite3_uint64 wide; /* columns whose blobs Python has to look at */
} Cursor;

static PyObject *no_change; /* apsw.no_change */

static int used_column(sqlite3_uint64 used, int column)
{
    return (int)(used >> (column < TOLD ? column : TOLD)) & 1;
}

/* ------------------------------------------------------------------------------------------ values */

static int cell_of(PyObject *value, Cell *cell)
{
    if (value == Py_None) {
        cell->kind = SQLITE_NULL;
    } else if (PyLong_Check(value)) {
        int overflow;
        cell->value.integer = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow) {
            PyErr_Format(PyExc_OverflowError, "%R does not fit into 64 bits", value);
            return -1;
        }
        cell->kind = SQLITE_INTEGER;
    } else if (PyFloat_Check(value)) {
        cell->value.real = PyFloat_AsDouble(value);
        cell->kind = SQLITE_FLOAT;
    } else if (PyUnicode_Check(value) || PyBytes_Check(value)) {
        Py_ssize_t size;
        if (PyUnicode_Check(value)) {
            cell->value.bytes = PyUnicode_AsUTF8AndSize(value, &size);
            cell->kind = SQLITE_TEXT;
        } else {
            char *bytes = NULL;
            if (PyBytes_AsStringAndSize(value, &bytes, &size) < 0)
                return -1;
            cell->value.bytes = bytes;
            cell->kind = SQLITE_BLOB;
        }
        if (cell->value.bytes == NULL)
            return -1;
        if (size > INT32_MAX) {
            PyErr_Format(PyExc_OverflowError, "a value of %zd bytes is too large for SQLite", size);
            return -1;
        }
        cell->size = (int)size;
    } else {
        PyErr_Format(PyExc_TypeError, "%.200R is no value of SQL", value);
        return -1;
    }
    return 0;
}

static PyObject *object_of(sqlite3_value *value)
{
    switch (sql_value_type(value)) {
    case SQLITE_INTEGER:
        return PyLong_FromLongLong(sql_value_int64(value));
    case SQLITE_FLOAT:
        return PyFloat_FromDouble(sql_value_double(value));
    case SQLITE_TEXT: {
        const char *text = (const char *)sql_value_text(value);
        if (text == NULL)
            return PyErr_NoMemory();
        return PyUnicode_FromStringAndSize(text, sql_value_bytes(value));
    }
    case SQLITE_BLOB: {
        const char *blob = sql_value_blob(value);
        return PyBytes_FromStringAndSize(blob, sql_value_bytes(value));
    }
    default:
        Py_INCREF(Py_None);
        return Py_None;
    }
}

static PyObject *tuple_of(int count, sqlite3_value **values, int unchanged)
{
    PyObject *tuple = PyTuple_New(count);
    for (int at = 0; tuple != NULL && at < count; at++) {
        PyObject *item;
        if (unchanged && sql_value_nochange(values[at])) {
            item = no_change;
            Py_INCREF(item);
        } else {
            item = object_of(values[at]);
        }
        if (item == NULL || PyTuple_SetItem(tuple, at, item) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

/* ------------------------------------------------------------------------------------------ rows */

static void forget_batch(Cursor *self)
{
    for (int at = 0; at < self->count; at++)
        Py_CLEAR(self->batch[at]);
    self->count = self->at = 0;
}

/* Note the values of a row that the statement uses. Takes the reference. Gives the bytes of it, or -1. */
static Py_ssize_t add_row(Cursor *self, PyObject *row)
{
    const Table *table = (Table *)self->base.pVtab;
    if (self->count >= self->room) {
        int room = self->room ? self->room * 4 : 1;
        if (room > BATCH)
            room = BATCH;
        Cell *cells = realloc(self->cells, sizeof(Cell) * (size_t)room * (size_t)(table->width + 1));
        if (cells == NULL) {
            Py_DECREF(row);
            PyErr_NoMemory();
            return -1;
        }
        self->cells = cells;
        self->room = room;
    }
    Cell *cells = self->cells + (size_t)self->count * (size_t)(table->width + 1);
    Cell *handle = cells + table->width;
    memset(cells, 0, sizeof(Cell) * (size_t)(table->width + 1));
    self->batch[self->count++] = row;
    if (PyBytes_Check(row)) { /* nothing but the key */
        if (cell_of(row, handle) < 0)
            return -1;
        if (table->rowid) {
            sqlite3_uint64 number = 0;
            if (handle->size != 12) {
                PyErr_SetString(PyExc_SystemError, "the key of a table with rowids has 12 bytes");
                return -1;
            }
            for (int at = 4; at < 12; at++)
                number = number << 8 | (unsigned char)handle->value.bytes[at];
            handle->kind = SQLITE_INTEGER;
            handle->value.integer = (sqlite3_int64)(number ^ (sqlite3_uint64)1 << 63);
        }
        return 64;
    }
    Py_ssize_t size = PyTuple_Size(row), bytes = 64;
    if (size < table->width) {
        if (size >= 0)
            PyErr_SetString(PyExc_SystemError, "a row has too few values");
        return -1;
    }
    for (int column = 0; column < table->width; column++) {
        if (!used_column(self->used, column))
            continue;
        if (cell_of(PyTuple_GetItem(row, column), cells + column) < 0)
            return -1;
        bytes += cells[column].kind == SQLITE_TEXT || cells[column].kind == SQLITE_BLOB ? cells[column].size : 0;
    }
    Py_ssize_t place = table->rowid ? (table->alias >= 0 ? table->alias : size - 1) : table->width;
    if (place < size && cell_of(PyTuple_GetItem(row, place), handle) < 0)
        return -1;
    return bytes;
}

static int next_batch(Cursor *self)
{
    Py_ssize_t bytes = 0;
    forget_batch(self);
    while (self->rows != NULL && self->count < self->size && bytes < BYTES) {
        PyObject *row = PyIter_Next(self->rows);
        if (row == NULL) {
            Py_CLEAR(self->rows);
            if (PyErr_Occurred())
                return SQLITE_ERROR;
            break;
        }
        Py_ssize_t added = add_row(self, row);
        if (added < 0)
            return SQLITE_ERROR;
        bytes += added;
    }
    self->size = self->size * 4 < BATCH ? self->size * 4 : BATCH;
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------ SQLite's questions */

static void forget_module(void *module)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    Py_DECREF((PyObject *)module);
    PyGILState_Release(gil);
}

static int connect(sqlite3 *db, void *module, int argc, const char *const *argv, sqlite3_vtab **made, char **message)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    int result = SQLITE_ERROR;
    const char *declaration = NULL;
    PyObject *table = NULL;
    Table *self = calloc(1, sizeof(Table));
    PyObject *answer = PyObject_CallMethod((PyObject *)module, "table", "s", argc > 3 ? argv[3] : "");
    if (self == NULL) {
        PyErr_NoMemory();
    } else if (answer != NULL && PyArg_ParseTuple(answer, "sO", &declaration, &table)) {
        PyObject *facts = PyObject_CallMethod(table, "facts", NULL);
        if (facts != NULL && PyArg_ParseTuple(facts, "iip", &self->width, &self->alias, &self->rowid)) {
            sql_vtab_config(db, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1);
            result = sql_declare_vtab(db, declaration);
        }
        Py_XDECREF(facts);
    }
    if (result == SQLITE_OK) {
        Py_INCREF(table);
        self->table = table;
        *made = &self->base;
    } else {
        free(self);
        if (!PyErr_Occurred() && declaration != NULL)
            *message = sql_mprintf("%s", declaration);
    }
    Py_XDECREF(answer);
    PyGILState_Release(gil);
    return result;
}

static int disconnect(sqlite3_vtab *base)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *kind, *value, *trace;
    PyErr_Fetch(&kind, &value, &trace);
    Py_CLEAR(((Table *)base)->table);
    free(base);
    PyErr_Restore(kind, value, trace);
    PyGILState_Release(gil);
    return SQLITE_OK;
}

/* What SQLite asks for, as Python's objects: (constraints, order, distinct, columns used). */
static PyObject *request_of(sqlite3_index_info *info)
{
    PyObject *constraints = PyList_New(0), *order = PyList_New(0);
    for (int at = 0; constraints != NULL && order != NULL && at < info->nConstraint; at++) {
        const struct sqlite3_index_constraint *each = info->aConstraint + at;
        sqlite3_value *literal = NULL;
        PyObject *value = NULL, *item;
        if (sql_vtab_rhs_value(info, at, &literal) == SQLITE_OK && literal != NULL && (value = object_of(literal)) == NULL)
            goto failed;
        const char *collation = sql_vtab_collation(info, at);
        item = Py_BuildValue("(iiOz)", each->iColumn, each->op, each->usable ? Py_True : Py_False, collation);
        PyObject *pair = item == NULL ? NULL : Py_BuildValue("(NN)", item, value == NULL ? PyTuple_New(0) : Py_BuildValue("(N)", value));
        if (pair == NULL || PyList_Append(constraints, pair) < 0) {
            Py_XDECREF(pair);
            goto failed;
        }
        Py_DECREF(pair);
    }
    for (int at = 0; constraints != NULL && order != NULL && at < info->nOrderBy; at++) {
        PyObject *item = Py_BuildValue("(iO)", info->aOrderBy[at].iColumn, info->aOrderBy[at].desc ? Py_True : Py_False);
        if (item == NULL || PyList_Append(order, item) < 0) {
            Py_XDECREF(item);
            goto failed;
        }
        Py_DECREF(item);
    }
    if (constraints != NULL && order != NULL)
        return Py_BuildValue("(NNiK)", constraints, order, sql_vtab_distinct(info), (unsigned long long)info->colUsed);
failed:
    Py_XDECREF(constraints);
    Py_XDECREF(order);
    return NULL;
}

static int best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    int result = SQLITE_ERROR, one_row, ordered;
    PyObject *used, *answer = NULL, *request = request_of(info);
    long long rows;
    if (request != NULL)
        answer = PyObject_CallMethod(((Table *)base)->table, "answer", "(O)", request);
    if (answer != NULL && PyArg_ParseTuple(answer, "iOppdL", &info->idxNum, &used, &one_row, &ordered,
                                           &info->estimatedCost, &rows)) {
        Py_ssize_t count = PyTuple_Size(used);
        result = SQLITE_OK;
        for (Py_ssize_t at = 0; at < count; at++) {
            int number, omitted;
            if (!PyArg_ParseTuple(PyTuple_GetItem(used, at), "ip", &number, &omitted)) {
                result = SQLITE_ERROR;
                break;
            }
            info->aConstraintUsage[number].argvIndex = (int)at + 1;
            info->aConstraintUsage[number].omit = (unsigned char)omitted;
        }
        info->idxFlags = one_row ? SQLITE_INDEX_SCAN_UNIQUE : 0;
        info->orderByConsumed = ordered;
        info->estimatedRows = rows;
        info->idxStr = sql_mprintf("%llx", (unsigned long long)info->colUsed);
        info->needToFreeIdxStr = 1;
        if (info->idxStr == NULL)
            result = SQLITE_NOMEM;
    }
    Py_XDECREF(answer);
    Py_XDECREF(request);
    PyGILState_Release(gil);
    return result;
}

static int open_cursor(sqlite3_vtab *base, sqlite3_vtab_cursor **made)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    int result = SQLITE_ERROR;
    unsigned long long wide;
    PyObject *cursor = NULL, *answer = PyObject_CallMethod(((Table *)base)->table, "opened", NULL);
    if (answer != NULL && PyArg_ParseTuple(answer, "OK", &cursor, &wide)) {
        Cursor *self = calloc(1, sizeof(Cursor));
        if (self == NULL) {
            result = SQLITE_NOMEM;
        } else {
            Py_INCREF(cursor);
            self->cursor = cursor;
            self->wide = wide;
            *made = &self->base;
            result = SQLITE_OK;
        }
    }
    Py_XDECREF(answer);
    PyGILState_Release(gil);
    return result;
}

static int close_cursor(sqlite3_vtab_cursor *base)
{
    Cursor *self = (Cursor *)base;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *kind, *value, *trace;
    PyErr_Fetch(&kind, &value, &trace);
    forget_batch(self);
    Py_CLEAR(self->rows);
    Py_CLEAR(self->kept);
    Py_CLEAR(self->cursor);
    free(self->cells);
    free(self);
    PyErr_Restore(kind, value, trace);
    PyGILState_Release(gil);
    return SQLITE_OK;
}

/* The row that the table was kept for; it has been looked up by rowid. */
static int find_kept(Cursor *self, sqlite3_int64 rowid)
{
    PyObject *number = PyLong_FromLongLong(rowid);
    PyObject *row = number == NULL ? NULL : PyDict_GetItemWithError(self->kept, number);
    Py_XDECREF(number);
    if (row == NULL)
        return PyErr_Occurred() ? SQLITE_ERROR : SQLITE_OK;
    Py_INCREF(row);
    return add_row(self, row) < 0 ? SQLITE_ERROR : SQLITE_OK;
}

static int filter(sqlite3_vtab_cursor *base, int number, const char *used, int argc, sqlite3_value **argv)
{
    Cursor *self = (Cursor *)base;
    PyGILState_STATE gil = PyGILState_Ensure();
    int result = SQLITE_ERROR;
    forget_batch(self);
    Py_CLEAR(self->rows);
    self->size = 1;
    self->used = used == NULL ? 0 : strtoull(used, NULL, 16);
    if (self->kept != NULL && argc > 0 && sql_value_type(argv[0]) == SQLITE_INTEGER) {
        result = find_kept(self, sql_value_int64(argv[0]));
    } else {
        PyObject *args = tuple_of(argc, argv, 0), *found = NULL;
        if (args != NULL)
            found = PyObject_CallMethod(self->cursor, "start", "iN", number, args);
        if (found == NULL) {
        } else if (found == Py_None) {
            Py_DECREF(found);
            result = SQLITE_OK;
        } else if (PyTuple_Check(found)) {
            result = add_row(self, found) < 0 ? SQLITE_ERROR : SQLITE_OK;
        } else if (PyDict_Check(found)) {
            Py_XDECREF(self->kept);
            self->kept = found;
            result = find_kept(self, sql_value_int64(argv[0]));
        } else {
            self->rows = found;
            result = next_batch(self);
        }
    }
    PyGILState_Release(gil);
    return result;
}

static int next_row(sqlite3_vtab_cursor *base)
{
    Cursor *self = (Cursor *)base;
    if (++self->at < self->count || self->rows == NULL)
        return SQLITE_OK;
    PyGILState_STATE gil = PyGILState_Ensure();
    int result = next_batch(self);
    PyGILState_Release(gil);
    return result;
}

static int eof(sqlite3_vtab_cursor *base)
{
    const Cursor *self = (Cursor *)base;
    return self->at >= self->count;
}

/* A column that SQLite has not said to be used, or one that Python has to look at. */
static int looked_at(Cursor *self, int column, Cell *cell)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *row = self->batch[self->at];
    PyObject *value = PyTuple_Check(row) ? PyTuple_GetItem(row, column) : NULL;
    int result = SQLITE_ERROR;
    if (value == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_SystemError, "a column was asked for that is not read");
    } else if (cell_of(value, cell) == 0) {
        result = SQLITE_OK;
        if (cell->kind == SQLITE_BLOB && used_column(self->wide, column)) {
            PyObject *answer = PyObject_CallMethod(self->cursor, "look", "iO", column, value);
            result = answer == NULL ? SQLITE_ERROR : SQLITE_OK;
            Py_XDECREF(answer);
        }
    }
    PyGILState_Release(gil);
    return result;
}

static int column(sqlite3_vtab_cursor *base, sqlite3_context *context, int number)
{
    Cursor *self = (Cursor *)base;
    Table *table = (Table *)base->pVtab;
    if (sql_vtab_nochange(context))
        return SQLITE_OK;
    Cell *cell = self->cells + (size_t)self->at * (size_t)(table->width + 1) + number;
    if (cell->kind == 0 || (cell->kind == SQLITE_BLOB && used_column(self->wide, number))) {
        int result = looked_at(self, number, cell);
        if (result != SQLITE_OK)
            return result;
    }
    switch (cell->kind) {
    case SQLITE_INTEGER:
        sql_result_int64(context, cell->value.integer);
        break;
    case SQLITE_FLOAT:
        sql_result_double(context, cell->value.real);
        break;
    case SQLITE_TEXT:
        sql_result_text(context, cell->value.bytes, cell->size, SQLITE_TRANSIENT);
        break;
    case SQLITE_BLOB:
        sql_result_blob(context, cell->value.bytes, cell->size, SQLITE_TRANSIENT);
        break;
    default:
        break;
    }
    return SQLITE_OK;
}

static int rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *number)
{
    const Cursor *self = (Cursor *)base;
    const Table *table = (Table *)base->pVtab;
    *number = self->cells[(size_t)self->at * (size_t)(table->width + 1) + (size_t)table->width].value.integer;
    return SQLITE_OK;
}

static int update(sqlite3_vtab *base, int argc, sqlite3_value **argv, sqlite3_int64 *made)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *table = ((Table *)base)->table, *answer = NULL, *handle = NULL, *fields = NULL;
    int inserting = argc > 1 && sql_value_type(argv[0]) == SQLITE_NULL;
    int result = SQLITE_ERROR;
    if (argc == 1) {
        answer = PyObject_CallMethod(table, "UpdateDeleteRow", "N", object_of(argv[0]));
    } else if ((handle = object_of(argv[1])) != NULL && (fields = tuple_of(argc - 2, argv + 2, !inserting)) != NULL) {
        if (inserting)
            answer = PyObject_CallMethod(table, "UpdateInsertRow", "OO", handle, fields);
        else
            answer = PyObject_CallMethod(table, "UpdateChangeRow", "NOO", object_of(argv[0]), handle, fields);
    }
    if (answer != NULL) {
        result = SQLITE_OK;
        if (inserting) {
            *made = PyLong_AsLongLong(answer);
            if (*made == -1 && PyErr_Occurred())
                result = SQLITE_ERROR;
        }
    }
    Py_XDECREF(answer);
    Py_XDECREF(handle);
    Py_XDECREF(fields);
    PyGILState_Release(gil);
    return result;
}

static const sqlite3_module module = {
    .iVersion = 1,
    .xCreate = connect,
    .xConnect = connect,
    .xBestIndex = best_index,
    .xDisconnect = disconnect,
    .xDestroy = disconnect,
    .xOpen = open_cursor,
    .xClose = close_cursor,
    .xFilter = filter,
    .xNext = next_row,
    .xEof = eof,
    .xColumn = column,
    .xRowid = rowid,
    .xUpdate = update,
};

/* ------------------------------------------------------------------------------------------ Python's module */

PyDoc_STRVAR(create_module_doc,
             "create_module(database, name, module, no_change)\n--\n\n"
             "Give a database a module for virtual tables.\n\n"
             "database is the address of a sqlite3, which has loaded this file as an extension; module gives the tables.");

static PyObject *create_module(PyObject *self, PyObject *args)
{
    unsigned long long database;
    const char *name;
    PyObject *tables, *unchanged;
    (void)self;
    if (!PyArg_ParseTuple(args, "KsOO", &database, &name, &tables, &unchanged))
        return NULL;
    if (sql_create_module_v2 == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "no database has loaded this file as an extension");
        return NULL;
    }
    Py_INCREF(unchanged);
    Py_XDECREF(no_change);
    no_change = unchanged;
    Py_INCREF(tables);
    /* If it fails it has called forget_module already. */
    int result = sql_create_module_v2((sqlite3 *)(uintptr_t)database, name, &module, tables, forget_module);
    if (result != SQLITE_OK) {
        PyErr_Format(PyExc_RuntimeError, "SQLite does not take the module %s: error %d", name, result);
        return NULL;
    }
    Py_INCREF(Py_None);
    return Py_None;
}

static PyObject *version(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyLong_FromLong(sql_libversion_number == NULL ? 0 : sql_libversion_number());
}

static PyMethodDef functions[] = {
    {"create_module", create_module, METH_VARARGS, create_module_doc},
    {"version", version, METH_NOARGS, "version()\n--\n\nThe version of the SQLite that has loaded this file; 0: none has."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "kvdialect.dialect._tables",
    .m_doc = "Virtual tables in C; see kvdialect/dialect/virtual.py.",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__tables(void) { return PyModuleDef_Init(&definition); }
