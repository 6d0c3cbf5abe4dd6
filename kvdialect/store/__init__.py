"""Engine, catalog, transaction, the one row writer, id allocator, index building."""
