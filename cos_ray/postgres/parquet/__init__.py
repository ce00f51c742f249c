"""The journal as Parquet files: what is written, and what is read back."""
