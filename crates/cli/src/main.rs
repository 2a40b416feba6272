//! gvpn: the operator command.

fn main() {}
