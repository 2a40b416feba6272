//! The codec against vectors, properties and the corpora of the fuzz targets.

mod corpus;
mod describe;
mod fuzz_bodies;
mod malformed;
mod round_trip;
mod support;
mod vectors;
