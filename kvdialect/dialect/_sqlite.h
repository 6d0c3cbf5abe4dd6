/* The part of SQLite's C interface that _tables.c uses, as https://www.sqlite.org/c3ref documents it.
 *
 * A loadable extension gets SQLite's functions as one table of pointers (sqlite3_api_routines in sqlite3ext.h). Its order
 * never changes, as new functions are only appended, so the place of each is written here: no header of SQLite's is
 * needed to build this package.
 */
#ifndef KVDIALECT_SQLITE_H
#define KVDIALECT_SQLITE_H

#include <stdint.h>

#define SQLITE_OK 0
#define SQLITE_ERROR 1
#define SQLITE_NOMEM 7

#define SQLITE_INTEGER 1
#define SQLITE_FLOAT 2
#define SQLITE_TEXT 3
#define SQLITE_BLOB 4
#define SQLITE_NULL 5

#define SQLITE_VTAB_CONSTRAINT_SUPPORT 1
#define SQLITE_INDEX_SCAN_UNIQUE 1
#define SQLITE_TRANSIENT ((void (*)(void *))(intptr_t)-1)

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_context sqlite3_context;
typedef struct sqlite3_value sqlite3_value;
typedef int64_t sqlite3_int64;
typedef uint64_t sqlite3_uint64;

typedef struct sqlite3_module sqlite3_module;
typedef struct sqlite3_vtab {
    const sqlite3_module *pModule;
    int nRef;
    char *zErrMsg;
} sqlite3_vtab;
typedef struct sqlite3_vtab_cursor {
    sqlite3_vtab *pVtab;
} sqlite3_vtab_cursor;

typedef struct sqlite3_index_info {
    int nConstraint;
    struct sqlite3_index_constraint {
        int iColumn;
        unsigned char op;
        unsigned char usable;
        int iTermOffset;
    } *aConstraint;
    int nOrderBy;
    struct sqlite3_index_orderby {
        int iColumn;
        unsigned char desc;
    } *aOrderBy;
    struct sqlite3_index_constraint_usage {
        int argvIndex;
        unsigned char omit;
    } *aConstraintUsage;
    int idxNum;
    char *idxStr;
    int needToFreeIdxStr;
    int orderByConsumed;
    double estimatedCost;
    sqlite3_int64 estimatedRows; /* since 3.8.2 */
    int idxFlags;                /* since 3.9.0 */
    sqlite3_uint64 colUsed;      /* since 3.10.0 */
} sqlite3_index_info;

struct sqlite3_module {
    int iVersion;
    int (*xCreate)(sqlite3 *, void *, int, const char *const *, sqlite3_vtab **, char **);
    int (*xConnect)(sqlite3 *, void *, int, const char *const *, sqlite3_vtab **, char **);
    int (*xBestIndex)(sqlite3_vtab *, sqlite3_index_info *);
    int (*xDisconnect)(sqlite3_vtab *);
    int (*xDestroy)(sqlite3_vtab *);
    int (*xOpen)(sqlite3_vtab *, sqlite3_vtab_cursor **);
    int (*xClose)(sqlite3_vtab_cursor *);
    int (*xFilter)(sqlite3_vtab_cursor *, int, const char *, int, sqlite3_value **);
    int (*xNext)(sqlite3_vtab_cursor *);
    int (*xEof)(sqlite3_vtab_cursor *);
    int (*xColumn)(sqlite3_vtab_cursor *, sqlite3_context *, int);
    int (*xRowid)(sqlite3_vtab_cursor *, sqlite3_int64 *);
    int (*xUpdate)(sqlite3_vtab *, int, sqlite3_value **, sqlite3_int64 *);
    int (*xBegin)(sqlite3_vtab *);
    int (*xSync)(sqlite3_vtab *);
    int (*xCommit)(sqlite3_vtab *);
    int (*xRollback)(sqlite3_vtab *);
    int (*xFindFunction)(sqlite3_vtab *, int, const char *, void (**)(sqlite3_context *, int, sqlite3_value **), void **);
    int (*xRename)(sqlite3_vtab *, const char *);
};

typedef void *const *sqlite3_routines;

/* FUNCTION(place in sqlite3_api_routines, result, name, parameters) */
#define SQLITE_FUNCTIONS(FUNCTION)                                                                                     \
    FUNCTION(50, int, declare_vtab, (sqlite3 *, const char *))                                                         \
    FUNCTION(67, int, libversion_number, (void))                                                                       \
    FUNCTION(69, char *, mprintf, (const char *, ...))                                                                 \
    FUNCTION(78, void, result_blob, (sqlite3_context *, const void *, int, void (*)(void *)))                          \
    FUNCTION(79, void, result_double, (sqlite3_context *, double))                                                     \
    FUNCTION(83, void, result_int64, (sqlite3_context *, sqlite3_int64))                                               \
    FUNCTION(85, void, result_text, (sqlite3_context *, const char *, int, void (*)(void *)))                          \
    FUNCTION(102, const void *, value_blob, (sqlite3_value *))                                                         \
    FUNCTION(103, int, value_bytes, (sqlite3_value *))                                                                 \
    FUNCTION(105, double, value_double, (sqlite3_value *))                                                             \
    FUNCTION(107, sqlite3_int64, value_int64, (sqlite3_value *))                                                       \
    FUNCTION(109, const unsigned char *, value_text, (sqlite3_value *))                                                \
    FUNCTION(113, int, value_type, (sqlite3_value *))                                                                  \
    FUNCTION(119, int, create_module_v2, (sqlite3 *, const char *, const sqlite3_module *, void *, void (*)(void *)))  \
    FUNCTION(177, int, vtab_config, (sqlite3 *, int, ...))                                                             \
    FUNCTION(222, int, vtab_nochange, (sqlite3_context *))                                                             \
    FUNCTION(223, int, value_nochange, (sqlite3_value *))                                                              \
    FUNCTION(224, const char *, vtab_collation, (sqlite3_index_info *, int))                                           \
    FUNCTION(257, int, vtab_rhs_value, (sqlite3_index_info *, int, sqlite3_value **))                                  \
    FUNCTION(258, int, vtab_distinct, (sqlite3_index_info *))

#endif
