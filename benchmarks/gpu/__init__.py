"""The benchmark on a GPU: shapes and their arithmetic, rows by length, contestants, measuring, the table."""
