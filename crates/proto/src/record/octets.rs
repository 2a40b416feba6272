//! Fields of a record, written and read in a fixed order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crypto::Secret;
use wire::codec::{Error, Reader, Result, Violation};

use crate::time::Instant;

/// Writes fields. Its buffer holds keys, so whatever it outgrows is wiped.
#[derive(Default)]
pub(crate) struct Output {
    octets: Vec<u8>,
}

impl Output {
    pub(crate) fn into_secret(self) -> Secret {
        Secret::new(self.octets)
    }

    pub(crate) fn raw(&mut self, octets: &[u8]) {
        let wanted = self.octets.len() + octets.len();
        if wanted > self.octets.capacity() {
            let mut larger = Vec::with_capacity(wanted.next_power_of_two().max(1024));
            larger.extend_from_slice(&self.octets);
            drop(Secret::new(std::mem::replace(&mut self.octets, larger)));
        }
        self.octets.extend_from_slice(octets);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.u8(value.into());
    }

    /// Octets with their length, of which four octets can tell.
    pub(crate) fn counted(&mut self, octets: &[u8]) {
        self.count(octets.len());
        self.raw(octets);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.counted(text.as_bytes());
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("nothing in a group is counted in milliards"));
    }

    pub(crate) fn duration(&mut self, duration: Duration) {
        self.u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// A moment, relative to `now`: the clock of another process has another origin.
    pub(crate) fn moment(&mut self, now: Instant, moment: Instant) {
        let difference = i128::from(moment.as_micros()) - i128::from(now.as_micros());
        let clamped = difference.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        self.raw(&clamped.to_be_bytes());
    }

    /// Whether there is one, and it, or as many octets: so with the others below.
    pub(crate) fn optional_moment(&mut self, now: Instant, moment: Option<Instant>) {
        self.flag(moment.is_some());
        self.moment(now, moment.unwrap_or(now));
    }

    pub(crate) fn optional_duration(&mut self, duration: Option<Duration>) {
        self.flag(duration.is_some());
        self.duration(duration.unwrap_or_default());
    }

    pub(crate) fn optional_address(&mut self, address: Option<IpAddr>) {
        self.flag(address.is_some());
        self.address(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
    }

    pub(crate) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.u8(4);
                self.raw(&address.octets());
            }
            IpAddr::V6(address) => {
                self.u8(6);
                self.raw(&address.octets());
            }
        }
    }

    pub(crate) fn socket(&mut self, socket: SocketAddr) {
        self.address(socket.ip());
        self.u16(socket.port());
    }
}

/// Reads what [`Output`] wrote.
pub(crate) struct Input<'a> {
    reader: Reader<'a>,
    /// The moment that moments are relative to.
    written: Written,
}

/// When a record was written, on our clock: it may have been before our clock began.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    pub(crate) now: Instant,
    pub(crate) age: Duration,
}

impl<'a> Input<'a> {
    pub(crate) fn new(octets: &'a [u8], written: Written) -> Self {
        Self { reader: Reader::new(octets), written }
    }

    pub(crate) fn error(&self, field: &'static str) -> Error {
        self.reader.error(Violation::BadValue, field)
    }

    pub(crate) fn finish(&self) -> Result<()> {
        self.reader.finish("record")
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8> {
        self.reader.u8(field)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16> {
        self.reader.u16(field)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32> {
        self.reader.u32(field)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        self.reader.array(field)
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error(field)),
        }
    }

    pub(crate) fn counted(&mut self, field: &'static str) -> Result<&'a [u8]> {
        let length = self.u32(field)?;
        self.reader.take(length as usize, field)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String> {
        let octets = self.counted(field)?;
        String::from_utf8(octets.to_vec()).map_err(|_| self.error(field))
    }

    /// Elements, each read by `element`. Every one of them has an octet at least, so no count makes us allocate more
    /// than the record is long.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.u32(field)? as usize;
        if count > self.reader.len() {
            return Err(self.error(field));
        }
        (0..count).map(|_| element(self)).collect()
    }

    pub(crate) fn duration(&mut self, field: &'static str) -> Result<Duration> {
        Ok(Duration::from_micros(self.u64(field)?))
    }

    /// Our time now, and how long ago the record was written.
    pub(crate) fn written(&self) -> Written {
        self.written
    }

    /// A moment on our clock; what was before our clock began is its origin.
    pub(crate) fn moment(&mut self, field: &'static str) -> Result<Instant> {
        let difference = i128::from(i64::from_be_bytes(self.array(field)?));
        let Written { now, age } = self.written;
        let micros = i128::from(now.as_micros()) - age.as_micros().min(1 << 100) as i128 + difference;
        Ok(Instant::from_micros(u64::try_from(micros.max(0)).unwrap_or(u64::MAX)))
    }

    pub(crate) fn optional_moment(&mut self, field: &'static str) -> Result<Option<Instant>> {
        let is_there = self.flag(field)?;
        Ok(Some(self.moment(field)?).filter(|_| is_there))
    }

    pub(crate) fn optional_duration(&mut self, field: &'static str) -> Result<Option<Duration>> {
        let is_there = self.flag(field)?;
        Ok(Some(self.duration(field)?).filter(|_| is_there))
    }

    pub(crate) fn optional_address(&mut self, field: &'static str) -> Result<Option<IpAddr>> {
        let is_there = self.flag(field)?;
        Ok(Some(self.address(field)?).filter(|_| is_there))
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<IpAddr> {
        match self.u8(field)? {
            4 => Ok(IpAddr::from(self.array::<4>(field)?)),
            6 => Ok(IpAddr::from(self.array::<16>(field)?)),
            _ => Err(self.error(field)),
        }
    }

    pub(crate) fn socket(&mut self, field: &'static str) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.address(field)?, self.u16(field)?))
    }
}
