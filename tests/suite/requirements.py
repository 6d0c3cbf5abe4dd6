"""Which tests of SQLAlchemy's suite run: every flag of SQLAlchemy's is decided here, and a closed one says why.

Where the environment variable ``KVDIALECT_SUITE_REQUIREMENTS`` names the file ``test/requirements.py`` of SQLAlchemy's
sources, the flags are SQLAlchemy's own, of its databases by their names.
"""

from __future__ import annotations

import os
from importlib.util import module_from_spec, spec_from_file_location
from typing import Final

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

OPEN: Final = (
    "ad_hoc_engines",
    "arraysize",
    "autocommit",
    "autoincrement_insert",
    "autoincrement_without_sequence",
    "binary_comparisons",
    "binary_literals",
    "boolean_col_expressions",
    "bound_limit_offset",
    "check_constraint_reflection",
    "computed_columns",
    "computed_columns_reflect_persisted",
    "computed_columns_stored",
    "computed_columns_virtual",
    "create_table",
    "create_table_as",
    "create_temp_table_as",
    "ctes",
    "ctes_with_update_delete",
    "ctes_with_values",
    "date",
    "date_coerces_from_datetime",
    "date_historic",
    "date_implicit_bound",
    "datetime",
    "datetime_historic",
    "datetime_implicit_bound",
    "datetime_literals",
    "datetime_microseconds",
    "dbapi_lastrowid",
    "delete_returning",
    "dialect_level_isolation_level_param",
    "drop_table",
    "duplicate_key_raises_integrity_error",
    "duplicate_names_in_cursor_description",
    "empty_inserts",
    "empty_inserts_executemany",
    "empty_strings_text",
    "empty_strings_varchar",
    "emulated_lastrowid",
    "emulated_lastrowid_even_with_sequences",
    "except_",
    "expression_server_defaults",
    "expressions_against_unbounded_text",
    "fetch_null_from_numeric",
    "fetch_rows_post_commit",
    "fk_constraint_option_reflection_ondelete_noaction",
    "fk_constraint_option_reflection_ondelete_restrict",
    "fk_constraint_option_reflection_onupdate_restrict",
    "float_cast",
    "float_is_numeric",
    "float_or_double_precision_behaves_generically",
    "floats_to_four_decimals",
    "foreign_key_constraint_name_reflection",
    "foreign_key_constraint_option_reflection_ondelete",
    "foreign_key_constraint_option_reflection_onupdate",
    "foreign_key_constraint_reflection",
    "foreign_key_ddl",
    "get_isolation_level_values",
    "graceful_disconnects",
    "group_by_complex_expression",
    "has_temp_table",
    "implements_get_lastrowid",
    "implicit_decimal_binds",
    "implicit_default_schema",
    "independent_connections",
    "independent_readonly_connections",
    "index_ddl_if_exists",
    "index_reflection",
    "indexes_check_column_order",
    "indexes_with_ascdesc",
    "indexes_with_expressions",
    "infinity_floats",
    "inline_check_constraint_reflection",
    "insert_executemany_returning",
    "insert_from_select",
    "insert_returning",
    "insertmanyvalues",
    "intersect",
    "isolation_level",
    "json_array_indexes",
    "json_index_supplementary_unicode_element",
    "json_type",
    "legacy_unconditional_json_extract",
    "like_escapes",
    "literal_float_coercion",
    "mod_operator_as_percent_sign",
    "multivalues_inserts",
    "named_constraints",
    "nullable_booleans",
    "nullsordering",
    "nvarchar_types",
    "offset",
    "order_by_col_from_union",
    "order_by_label_with_expression",
    "percent_schema_names",
    "precision_generic_float_type",
    "precision_numerics_enotation_large",
    "precision_numerics_enotation_small",
    "precision_numerics_general",
    "precision_numerics_retains_significant_digits",
    "primary_key_constraint_reflection",
    "recursive_fk_cascade",
    "reflect_indexes_with_ascdesc",
    "reflect_table_options",
    "reflects_pk_names",
    "regexp_match",
    "repeated_column_foreign_keys",
    "repeated_remote_col_foreign_keys",
    "sane_multi_rowcount",
    "sane_rowcount",
    "sane_rowcount_w_returning",
    "savepoints",
    "schema_reflection",
    "schemas",
    "selectone",
    "self_referential_foreign_keys",
    "server_defaults",
    "skip_autocommit_rollback",
    "sql_expression_limit_offset",
    "standalone_binds",
    "standalone_null_binds_whereclause",
    "standard_cursor_sql",
    "subqueries",
    "supports_bitwise_and",
    "supports_bitwise_not",
    "supports_bitwise_or",
    "supports_bitwise_shift",
    "supports_bitwise_xor",
    "supports_is_distinct_from",
    "supports_lastrowid",
    "symbol_names_w_double_quote",
    "table_ddl_if_exists",
    "table_reflection",
    "temp_table_names",
    "temp_table_reflect_indexes",
    "temp_table_reflection",
    "temporary_tables",
    "temporary_views",
    "text_type",
    "time",
    "time_implicit_bound",
    "time_microseconds",
    "timestamp_microseconds",
    "timestamp_microseconds_implicit_bound",
    "tuple_in",
    "tuple_in_w_empty",
    "unbounded_varchar",
    "unicode_connections",
    "unicode_data",
    "unicode_data_no_special_types",
    "unicode_ddl",
    "unique_constraint_reflection",
    "unusual_column_name_characters",
    "update_from",
    "update_returning",
    "update_returning_dialect_not_supported",
    "update_where_target_in_subquery",
    "uuid_data_type",
    "view_column_reflection",
    "view_reflection",
    "views",
    "window_functions",
    "window_range",
    "window_range_numeric",
)
"""Flags that are open, on plain SQLite as here."""

BEYOND_SQLITE: Final = {
    "aggregate_order_by": "SQLite has it from 3.44 on; the standard library's may be older",
    "datetime_timezone": "SQLite's dialect drops the zone; ours keeps the moment, in UTC",
    "datetime_timezone_historic": "as datetime_timezone",
    "deferrable_fks": "SQLite enforces foreign keys only on a connection that asked for it",
    "foreign_keys": "SQLite enforces foreign keys only on a connection that asked for it",
    "on_update_cascade": "SQLite enforces foreign keys only on a connection that asked for it",
    "on_update_or_deferrable_fks": "SQLite enforces foreign keys only on a connection that asked for it",
    "regexp_replace": "SQLite has no such function",
    "server_side_cursors": "the standard library's cursors are of one kind; ours may be for streams",
}
"""Flags that are open here, and closed on plain SQLite for the reason given."""

CLOSED: Final = {
    "array_type": "lists of one dimension are stored; of deeper ones, Structured(list[list[...]]) is the type",
    "cast_precision_numerics_many_significant_digits": "SQLite calculates with floats, of 15 digits",
    "column_collation_reflection": "PRAGMA table_xinfo, which is what reflection reads, says nothing of it",
    "comment_reflection": "SQLite's DDL has no comments",
    "comment_reflection_full_unicode": "SQLite's DDL has no comments",
    "computed_columns_default_persisted": "a generated column is virtual unless it says STORED",
    "constraint_comment_reflection": "SQLite's DDL has no comments",
    "create_or_replace_view": "SQLite has no CREATE OR REPLACE VIEW",
    "cross_schema_fk_reflection": "a foreign key refers to a table of its own schema; REFERENCES takes no other",
    "ctes_on_dml": "SQLite takes only a SELECT within WITH",
    "datetime_interval": "SQLAlchemy keeps intervals as moments after 1970, and has no literals of them",
    "default_schema_name_switch": "the default schema is main, for every connection",
    "delete_from": "SQLite has no DELETE ... USING",
    "denormalized_names": "names are as they are written: none is made upper case",
    "fetch_expression": "SQLite has LIMIT, and no FETCH FIRST",
    "fetch_first": "SQLite has LIMIT, and no FETCH FIRST",
    "fetch_no_order_by": "SQLite has LIMIT, and no FETCH FIRST",
    "fetch_offset_with_options": "SQLite has LIMIT, and no FETCH FIRST",
    "fetch_percent": "SQLite has LIMIT, and no FETCH FIRST",
    "fetch_ties": "SQLite has LIMIT, and no FETCH FIRST",
    "foreign_keys_reflect_as_index": "a foreign key makes no index by itself",
    "identity_columns": "SQLite has no GENERATED ... AS IDENTITY",
    "identity_columns_standard": "SQLite has no GENERATED ... AS IDENTITY",
    "implicitly_named_constraints": "a constraint without a name has none",
    "index_reflects_included_columns": "kvdialect_include is for indexes of records; SQL's have none",
    "json_deserializer_binary": "JSON is text",
    "materialized_views": "SQLite has no materialized views",
    "materialized_views_reflect_pk": "SQLite has no materialized views",
    "nested_aggregates": "SQLite has no aggregate of an aggregate (misuse of aggregate function)",
    "no_lastrowid_support": "there is cursor.lastrowid",
    "non_updating_cascade": "ON UPDATE CASCADE is carried out",
    "numeric_received_as_decimal_untyped": "where no type says otherwise, numbers are int and float",
    "parens_in_union_contained_select_w_limit_offset": "SQLite takes no parentheses around a SELECT within UNION",
    "parens_in_union_contained_select_wo_limit_offset": "SQLite takes no parentheses around a SELECT within UNION",
    "precision_numerics_many_significant_digits": "NUMERIC has SQLite's affinity, of 15 digits (a record's is exact)",
    "reflect_indexes_with_ascdesc_as_expression": "DESC is no expression here: the column is reflected",
    "reflect_indexes_with_expressions": "SQLAlchemy leaves them out on SQLite, and Alembic's comparison counts on that",
    "reflect_tables_no_columns": "a table has a column at least",
    "schema_create_delete": "SQLite has no CREATE SCHEMA: schemas are named in the URL",
    "sequences": "SQLite has no sequences",
    "sequences_optional": "SQLite has no sequences",
    "supports_distinct_on": "SQLite has no DISTINCT ON",
    "table_value_constructor": "SQLite gives the columns of VALUES no names",
    "temp_table_comment_reflection": "SQLite's DDL has no comments",
    "time_timezone": "a time is kept without its zone",
    "two_phase_transactions": "a commit is one batch of one store: there is no prepared state",
    "unique_constraints_reflect_as_index": "reflection keeps the two apart",
    "unique_index_reflect_as_unique_constraints": "reflection keeps the two apart",
    "window_range_non_numeric": "SQLite's RANGE counts in numbers, and dates are text",
}
"""Flags that are closed, with the reason."""

ENVIRONMENT: Final = (
    "asyncio",
    "cextensions",
    "cpython",
    "fail_python314b1",
    "freethreading",
    "generic_classes",
    "gil_enabled",
    "greenlet",
    "is64bit",
    "memory_intensive",
    "no_coverage",
    "no_greenlet",
    "no_sequences",
    "no_sqlalchemy2_stubs",
    "no_windows",
    "not_python314",
    "only_linux",
    "patch_library",
    "pep649",
    "posix",
    "predictable_gc",
    "python312",
    "python314",
    "queue_pool",
    "skip_mysql_on_windows",
    "sqlalchemy2_stubs",
    "sqlite",
    "threading_with_mock",
    "timing_intensive",
)
"""Flags that say nothing of a database: of the interpreter, the platform, pytest, the pool. SQLAlchemy knows them."""


class Requirements(SuiteRequirements):
    """The flags as decided above, and what is more than open or closed."""

    @property
    def async_dialect(self):
        return exclusions.only_if(lambda config: config.db.dialect.is_async, "the driver is not one of the async ones")

    @property
    def order_by_collation(self):
        return exclusions.open()

    def get_order_by_collation(self, config):  # noqa: ARG002
        return "NOCASE"

    def get_isolation_levels(self, config):
        if config.db.name == "sqlite":
            return {"default": "SERIALIZABLE", "supported": ["READ UNCOMMITTED", "SERIALIZABLE", "AUTOCOMMIT"]}
        return {"default": "SNAPSHOT", "supported": ["SNAPSHOT", "SERIALIZABLE", "AUTOCOMMIT"]}


WRITTEN_OUT: Final = frozenset(name for name in vars(Requirements) if not name.startswith("_"))


def _flag(reason=None, databases=None):
    """A flag that is closed for a reason, on all databases if none is named."""

    def rule(_):  # made for each test, as SQLAlchemy adds to it
        if reason is None:
            return exclusions.open()
        return exclusions.skip_if(databases or exclusions.BooleanPredicate(True, reason), reason)

    return property(rule)


for _name in OPEN:
    setattr(Requirements, _name, _flag())
for _name, _reason in BEYOND_SQLITE.items():
    setattr(Requirements, _name, _flag(_reason, "sqlite"))
for _name, _reason in CLOSED.items():
    setattr(Requirements, _name, _flag(_reason))


def requirements():
    """SQLAlchemy's own, where the environment names their file; else those above."""
    path = os.environ.get("KVDIALECT_SUITE_REQUIREMENTS")
    if path is None:
        return Requirements()
    spec = spec_from_file_location("sqlalchemys_requirements", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DefaultRequirements()
