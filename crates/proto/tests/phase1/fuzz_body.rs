//! What must hold whatever arrives. The fuzz target calls this with octets of the fuzzer, `hostile.rs` with those that
//! were found interesting.

use std::collections::VecDeque;
use std::time::Duration;

use proto::path::Path;
use proto::phase1::{MAXIMUM_HALF_OPEN, Mode};

use super::peers::{Datagram, World};

/// A member and a server between whom the octets decide: what is delivered, changed, dropped, invented, and when.
///
/// The first octet chooses the mode; then each operation is one octet and its operands.
pub fn phase1_responder(octets: &[u8]) {
    let Some((&first, mut rest)) = octets.split_first() else { return };
    let mode = if first & 1 == 0 { Mode::Main } else { Mode::Aggressive };
    let mut world = World::with(|gateway| gateway.mode = mode);
    world.connect();
    let mut wire: VecDeque<Datagram> = world.wire.drain(..).collect();
    let path = Path::new(world.server.address, world.member.address);
    // A few dozen steps reach every state; more only make the fuzzer slow.
    for _ in 0..64 {
        let Some((&operation, operands)) = rest.split_first() else { break };
        rest = operands;
        match operation & 7 {
            // Anything at all, to the server.
            0 => {
                let length = take(&mut rest).min(rest.len());
                let (datagram, left) = rest.split_at(length);
                rest = left;
                world.server.receive(world.now, path, datagram);
            }
            // The next datagram, with one octet changed.
            1 | 2 => {
                let (at, flip) = (take(&mut rest), take(&mut rest) as u8);
                if let Some(mut datagram) = wire.pop_front() {
                    if let Some(octet) = datagram.octets.get_mut(at) {
                        *octet ^= flip;
                    }
                    deliver(&mut world, &datagram);
                }
            }
            // The next datagram is lost.
            3 => drop(wire.pop_front()),
            // The next datagram twice, now and later.
            4 => {
                if let Some(datagram) = wire.pop_front() {
                    deliver(&mut world, &datagram);
                    wire.push_back(datagram);
                }
            }
            5 => {
                world.now += Duration::from_millis(take(&mut rest) as u64 * 16);
                world.server.endpoint.handle_timeout(world.now);
                world.member.endpoint.handle_timeout(world.now);
            }
            _ => {
                if let Some(datagram) = wire.pop_front() {
                    deliver(&mut world, &datagram);
                }
            }
        }
        let sent = [world.server.drain(world.now), world.member.drain(world.now)].concat();
        assert!(sent.len() <= 8, "one datagram led to {}", sent.len());
        wire.extend(sent);
        assert!(world.server.endpoint.half_open() <= MAXIMUM_HALF_OPEN);
    }
    let ends = [&world.member, &world.server].map(|host| {
        let id = host.established()?;
        host.endpoint.association(id).map(|sa| (sa.initiator_cookie(), sa.skeyid_d().clone()))
    });
    if let [Some(member), Some(server)] = ends
        && member.0 == server.0
    {
        assert!(member.1 == server.1, "two peers hold different keys for one SA");
    }
}

/// A number of two octets; zero where the octets end.
fn take(rest: &mut &[u8]) -> usize {
    let Some((number, left)) = rest.split_first_chunk() else {
        *rest = &[];
        return 0;
    };
    *rest = left;
    u16::from_be_bytes(*number).into()
}

fn deliver(world: &mut World, datagram: &Datagram) {
    let now = world.now;
    let host =
        if datagram.path.remote == world.server.address { &mut world.server } else { &mut world.member };
    host.receive(now, datagram.path.reversed(), &datagram.octets);
}
