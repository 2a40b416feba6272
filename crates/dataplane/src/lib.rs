//! Batches of packets in, packets and verdicts out: SA database, policy, ESP, fragmentation, GSO.
