//! Every protocol state machine of both roles, sans-IO: phase 1, GROUPKEY-PULL, policy, server, member.
