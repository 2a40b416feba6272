//! Scenarios in network namespaces with the shipped binaries and real peers.

fn main() {}
