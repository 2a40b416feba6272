//! The data path on Linux: tc programs, TAPs, wire sockets and the lane that runs the packet engine.
