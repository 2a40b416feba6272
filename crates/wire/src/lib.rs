//! Bytes to types and back: ISAKMP, GDOI, ESP, IP and UDP. No cryptography, no clock.
