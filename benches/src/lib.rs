//! Benchmarks: one subject per file under this folder.
