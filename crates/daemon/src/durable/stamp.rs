//! When a record was written, so that its age can be told after a restart, and after a reboot.
//!
//! ```text
//!   content = layout 1 | boot id (16) | CLOCK_BOOTTIME (8) | CLOCK_REALTIME (8) | content of the role
//! ```
//!
//! Within one run of the kernel the age is a difference of `CLOCK_BOOTTIME`, which counts through suspend and which nobody
//! can set. Only across a reboot the wall clock must serve. Both are in microseconds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crypto::Secret;
use rustix::time::{ClockId, clock_gettime};
use store::Embedded;

use super::OpenError;

/// Layout of what stands before the content of the role.
const LAYOUT: u8 = 1;

/// Octets of it.
const LENGTH: usize = 1 + 16 + 8 + 8;

/// A moment that another run of the daemon understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Which run of the kernel it was; `None` where the kernel does not tell.
    boot: Option<[u8; 16]>,
    boottime_micros: u64,
    posix_micros: u64,
}

impl Stamp {
    /// Now.
    pub(super) fn now(boot: Option<[u8; 16]>) -> Self {
        let boottime = clock_gettime(ClockId::Boottime);
        let seconds = Duration::from_secs(boottime.tv_sec.try_into().unwrap_or(0));
        let boottime = seconds + Duration::from_nanos(boottime.tv_nsec.try_into().unwrap_or(0));
        let posix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { boot, boottime_micros: micros(boottime), posix_micros: micros(posix) }
    }

    /// Whether `other` is known to be of the same run of the kernel.
    pub(super) fn is_of_the_same_boot(&self, other: &Stamp) -> bool {
        self.boot.is_some() && self.boot == other.boot
    }

    /// How long ago `written` was. A clock that went back makes it no time at all: what is too old is then kept too long,
    /// which its holders do not notice, and never the other way round.
    pub(super) fn since(&self, written: &Stamp) -> Duration {
        let micros = match self.is_of_the_same_boot(written) {
            true => self.boottime_micros.saturating_sub(written.boottime_micros),
            false => self.posix_micros.saturating_sub(written.posix_micros),
        };
        Duration::from_micros(micros)
    }

    /// The moment that was so long ago.
    pub(super) fn before_by(&self, age: Duration) -> Stamp {
        Stamp {
            boot: self.boot,
            boottime_micros: self.boottime_micros.saturating_sub(micros(age)),
            posix_micros: self.posix_micros.saturating_sub(micros(age)),
        }
    }

    /// How far the wall clock of another machine is ahead of ours, by what it has just written, in milliseconds.
    pub(super) fn other_clock_ahead_millis(&self, written: &Stamp) -> Option<i64> {
        let other = self.boot.is_none() || self.boot != written.boot;
        other.then(|| (written.posix_micros.cast_signed() - self.posix_micros.cast_signed()) / 1000)
    }

    /// Adds what a server has changed to what is still to be written, with the moment before each content.
    pub(super) fn gather(
        &self,
        changes: Vec<proto::server::Change>,
        into: &mut BTreeMap<String, Option<Secret>>,
    ) {
        let stamped = |content: Secret| self.before(&content);
        into.extend(changes.into_iter().map(|change| (change.place, change.content.map(stamped))));
    }

    /// Puts the moment before a content.
    pub(super) fn before(&self, content: &Secret) -> Secret {
        let mut octets = Vec::with_capacity(LENGTH + content.len());
        octets.push(LAYOUT);
        octets.extend(self.boot.unwrap_or_default());
        octets.extend(self.boottime_micros.to_be_bytes());
        octets.extend(self.posix_micros.to_be_bytes());
        octets.extend(content.expose());
        Secret::new(octets)
    }

    /// Takes moment and content apart; `None` if this is no record of ours.
    pub(super) fn split(octets: &Secret) -> Option<(Stamp, Secret)> {
        let (layout, rest) = octets.expose().split_first()?;
        let (boot, rest) = rest.split_first_chunk::<16>()?;
        let (boottime, rest) = rest.split_first_chunk::<8>()?;
        let (posix, content) = rest.split_first_chunk::<8>()?;
        let stamp = Stamp {
            boot: Some(*boot).filter(|boot| *boot != [0; 16]),
            boottime_micros: u64::from_be_bytes(*boottime),
            posix_micros: u64::from_be_bytes(*posix),
        };
        (*layout == LAYOUT).then(|| (stamp, Secret::from_slice(content)))
    }
}

/// Reads all records of a file that `store` has open, each with the moment at which it was written.
pub(super) fn load(store: &Embedded, file: &Path) -> Result<Vec<(String, Stamp, Secret)>, OpenError> {
    let split = |(place, octets): (String, Secret)| match Stamp::split(&octets) {
        Some((written, content)) => Ok((place, written, content)),
        None => Err(OpenError::Layout(file.to_owned(), place)),
    };
    store.load()?.into_iter().map(split).collect()
}

/// Which run of the kernel this is.
pub(super) fn boot_id() -> Option<[u8; 16]> {
    parse_boot_id(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
}

fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|character| *character != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    Some(number.to_be_bytes()).filter(|boot| digits.len() == 32 && *boot != [0; 16])
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(boot: Option<u8>, boottime: u64, posix: u64) -> Stamp {
        let boot = boot.map(|octet| [octet; 16]);
        Stamp { boot, boottime_micros: boottime * 1_000_000, posix_micros: posix * 1_000_000 }
    }

    fn age(now: Stamp, written: Stamp) -> u64 {
        now.since(&written).as_secs()
    }

    #[test]
    fn within_one_run_of_the_kernel_a_step_of_the_wall_clock_changes_nothing() {
        for posix in [0, 1_000, 5_000_000_000] {
            assert_eq!(age(stamp(Some(1), 160, posix), stamp(Some(1), 100, 1_000)), 60);
        }
    }

    #[test]
    fn across_a_reboot_the_wall_clock_tells_and_no_age_is_negative() {
        assert_eq!(age(stamp(Some(2), 10, 1_090), stamp(Some(1), 100, 1_000)), 90);
        assert_eq!(age(stamp(Some(2), 10, 500), stamp(Some(1), 100, 1_000)), 0);
        assert_eq!(age(stamp(Some(1), 10, 500), stamp(Some(1), 100, 1_000)), 0);
        // Who does not know the run cannot compare.
        assert_eq!(age(stamp(None, 160, 1_090), stamp(None, 100, 1_000)), 90);
    }

    #[test]
    fn moment_and_content_come_back_and_what_is_cut_or_of_another_layout_does_not() {
        let written = stamp(Some(7), 3, 4);
        let whole = written.before(&Secret::from_slice(b"content"));
        let (read, content) = Stamp::split(&whole).expect("whole");
        assert_eq!(read, written);
        assert!(content.matches(b"content"));
        for length in 0..LENGTH {
            assert!(Stamp::split(&Secret::from_slice(&whole.expose()[..length])).is_none());
        }
        let mut other = whole.expose().to_vec();
        other[0] = 2;
        assert!(Stamp::split(&Secret::new(other)).is_none());
        let unknown = stamp(None, 3, 4);
        assert_eq!(Stamp::split(&unknown.before(&content)).expect("whole").0, unknown);
    }

    #[test]
    fn a_moment_some_time_ago_is_so_old_on_either_clock_and_other_machines_clocks_are_compared() {
        let now = stamp(Some(1), 160, 1_000);
        assert_eq!(age(now, now.before_by(Duration::from_secs(60))), 60);
        assert_eq!(age(stamp(Some(2), 5, 1_010), now.before_by(Duration::from_secs(60))), 70);
        assert_eq!(now.other_clock_ahead_millis(&stamp(Some(1), 1, 990)), None);
        assert_eq!(now.other_clock_ahead_millis(&stamp(Some(2), 1, 990)), Some(-10_000));
        assert_eq!(now.other_clock_ahead_millis(&stamp(None, 1, 1_002)), Some(2_000));
    }

    #[test]
    fn the_kernel_tells_which_run_it_is() {
        assert_eq!(
            parse_boot_id("01020304-0506-0708-090a-0b0c0d0e0f10\n"),
            Some(std::array::from_fn(|index| index as u8 + 1))
        );
        assert_eq!(parse_boot_id("01020304"), None);
        assert_eq!(boot_id(), boot_id());
        assert!(boot_id().is_some());
    }
}
