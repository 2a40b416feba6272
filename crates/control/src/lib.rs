//! Typed requests and replies of the local control socket.
