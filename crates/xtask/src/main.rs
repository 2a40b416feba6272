//! Repository chores: benchmarks, fuzzing, checks.

fn main() {}
