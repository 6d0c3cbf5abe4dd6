"""Pages to look at the records of a store and to change them, in a browser: SQLAdmin at the SQL door."""
