//! A view of the kernel's links, addresses and routes, kept current by netlink notifications.
