//! gvpnd: the event loop, sockets, clock, netlink, packet input and output, control socket.

fn main() {}
