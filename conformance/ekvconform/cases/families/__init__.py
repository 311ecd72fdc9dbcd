"""Cases that are made from tables, one module for each table."""
