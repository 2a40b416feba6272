//! The octets of a fuzz target as a list of steps, for the targets that play a peer.
//!
//! ```text
//! kind (1) | length (2) | octets (length)
//! ```

/// Steps of one input: enough for several exchanges.
const STEPS: usize = 32;

/// One thing that the peer does; what its kind means is the target's business.
pub struct Step<'a> {
    pub kind: u8,
    pub octets: &'a [u8],
}

/// The steps of an input; a length that is too long means the rest.
pub fn steps(mut input: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let next = move || {
        let (&[kind, high, low], rest) = input.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (octets, rest) = rest.split_at(length);
        input = rest;
        Some(Step { kind, octets })
    };
    std::iter::from_fn(next).take(STEPS)
}
