"""What is stored: records, types, indexes, layout, evolution; no input or output."""
