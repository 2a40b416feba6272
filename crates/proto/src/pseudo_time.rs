//! Pseudo-time: the clock of a group that packets carry, so that a receiver can tell how old they are
//! (draft-weis-delay-detection-03).
//!
//! The server keeps it: it begins as POSIX time when the group does, and from then on only goes forward, through restarts
//! too, whatever happens to anybody's wall clock. It travels in the GAP, as three private attributes that belong together:
//!
//! ```text
//!   128 type, basic: 1, POSIX-like        129 window in ms, four octets        130 now: seconds | microseconds
//! ```
//!
//! A member that does not know them must abort, so they go only where the D3P vendor id was shown.

use std::time::Duration;

pub use wire::PseudoTime;
use wire::attribute::{Attribute, Attributes};
use wire::registry::GapAttribute;

use crate::time::Instant;

/// The only type of time that the draft defines: seconds since the POSIX epoch, and microseconds.
const TYPE_POSIX: u16 = 1;

/// The pseudo-time that a server keeps for one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PseudoClock {
    /// Microseconds from our time line to pseudo-time, modulo 2^64.
    offset: u64,
}

impl PseudoClock {
    /// A clock that shows `time` at `now`.
    pub(crate) fn new(now: Instant, time: PseudoTime) -> Self {
        Self { offset: time.as_micros().wrapping_sub(now.as_micros()) }
    }

    pub(crate) fn read(self, now: Instant) -> PseudoTime {
        PseudoTime::from_micros(now.as_micros().wrapping_add(self.offset))
    }
}

/// Time-based anti-replay as a server tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AntiReplay {
    /// How far the time in a packet may be away from the receiver's, in either direction; whole milliseconds.
    pub window: Duration,
    /// The server's pseudo-time when it wrote the message.
    pub time: PseudoTime,
}

/// Octets of the attributes, and the place of the time in them.
pub(crate) const ATTRIBUTES_LENGTH: usize = 4 + 8 + 12;
pub(crate) const TIME_OFFSET: usize = ATTRIBUTES_LENGTH - 8;

/// The attributes, with the time still to be written.
pub(crate) fn attributes(window: Duration) -> [Attribute<'static>; 3] {
    let millis = u32::try_from(window.as_millis()).unwrap_or(u32::MAX);
    [
        Attribute::basic(GapAttribute::D3P_TYPE, TYPE_POSIX),
        Attribute::variable_u32(GapAttribute::D3P_WINDOW, millis),
        Attribute::variable(GapAttribute::D3P_PSEUDO_TIME, vec![0; 8]),
    ]
}

impl AntiReplay {
    /// Reads the attributes. `None` without any; the class that is wrong or missing where they are not as they should be.
    pub(crate) fn of(attributes: &Attributes<'_>) -> Result<Option<Self>, GapAttribute> {
        let find = |class: GapAttribute| {
            let mut found = attributes.iter().filter(move |attribute| attribute.class == class.0);
            match (found.next(), found.next()) {
                (first, None) => Ok(first),
                (_, Some(_)) => Err(class),
            }
        };
        let kind = find(GapAttribute::D3P_TYPE)?;
        let window = find(GapAttribute::D3P_WINDOW)?;
        let time = find(GapAttribute::D3P_PSEUDO_TIME)?;
        if kind.is_none() && window.is_none() && time.is_none() {
            return Ok(None);
        }
        let number = |attribute: Option<&Attribute<'_>>| attribute.and_then(Attribute::number);
        if number(kind) != Some(TYPE_POSIX.into()) {
            return Err(GapAttribute::D3P_TYPE);
        }
        let millis = number(window).filter(|millis| (1..=u32::MAX.into()).contains(millis));
        let octets = time.and_then(Attribute::as_bytes).and_then(|octets| <[u8; 8]>::try_from(octets).ok());
        Ok(Some(Self {
            window: Duration::from_millis(millis.ok_or(GapAttribute::D3P_WINDOW)?),
            time: octets.and_then(PseudoTime::from_octets).ok_or(GapAttribute::D3P_PSEUDO_TIME)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use wire::codec::Reader;

    use super::*;

    /// The attributes as octets, written out by hand.
    const VECTOR: [u8; ATTRIBUTES_LENGTH] = [
        0x80, 0x80, 0x00, 0x01, // type: POSIX-like
        0x00, 0x81, 0x00, 0x04, 0x00, 0x01, 0x86, 0xa0, // window: 100,000 ms
        0x00, 0x82, 0x00, 0x08, 0x65, 0x53, 0xf1, 0x00, 0x00, 0x01, 0xe2,
        0x40, // 1,700,000,000.123456 s
    ];

    fn read(octets: &[u8]) -> Result<Option<AntiReplay>, GapAttribute> {
        AntiReplay::of(&Attributes::read(&mut Reader::new(octets)).expect("readable"))
    }

    #[test]
    fn the_attributes_are_those_of_the_vector_both_ways() {
        let time = PseudoTime::from_micros(1_700_000_000_123_456);
        let expected = AntiReplay { window: Duration::from_secs(100), time };
        assert_eq!(read(&VECTOR), Ok(Some(expected)));
        let mut writer = wire::codec::Writer::new();
        Attributes::from(attributes(Duration::from_secs(100))).write(&mut writer);
        let mut octets = writer.finish().unwrap();
        assert_eq!(octets.len(), ATTRIBUTES_LENGTH);
        octets[TIME_OFFSET..].copy_from_slice(&time.to_octets());
        assert_eq!(octets, VECTOR);
    }

    #[test]
    fn what_is_missing_twice_or_of_another_form_is_named() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&VECTOR[..4]), Err(GapAttribute::D3P_WINDOW));
        assert_eq!(read(&VECTOR[..12]), Err(GapAttribute::D3P_PSEUDO_TIME));
        assert_eq!(read(&VECTOR[4..]), Err(GapAttribute::D3P_TYPE));
        assert_eq!(read(&[VECTOR, VECTOR].concat()), Err(GapAttribute::D3P_TYPE));
        for (place, octets, class) in [
            (3, [2].as_slice(), GapAttribute::D3P_TYPE),
            (8, &[0, 0, 0, 0], GapAttribute::D3P_WINDOW),
            (20, &[0, 0x0f, 0x42, 0x40], GapAttribute::D3P_PSEUDO_TIME),
        ] {
            let mut changed = VECTOR;
            changed[place..place + octets.len()].copy_from_slice(octets);
            assert_eq!(read(&changed), Err(class));
        }
    }

    #[test]
    fn the_clock_goes_with_our_time_line_from_any_origin() {
        for (origin, start) in [(0, 1_700_000_000_000_000), (u64::MAX / 2, 5)] {
            let now = Instant::from_micros(origin);
            let clock = PseudoClock::new(now, PseudoTime::from_micros(start));
            assert_eq!(clock.read(now).as_micros(), start);
            assert_eq!(clock.read(now + Duration::from_secs(3)).as_micros(), start + 3_000_000);
        }
    }
}
