//! What the tc programs write into the source address of a frame they redirect to the TAP (`bpf/layout.h`).

use dataplane::Origin;

const MAGIC: [u8; 5] = [0x02, b'g', b'v', b'p', b'n'];
const OWN: u8 = 0x01;
const INJECTED: u8 = 0x02;
const INGRESS: u8 = 0x04;
const WIRE: u8 = 0x08;
const WAKE: u8 = 0x10;

/// Octets of an Ethernet header.
pub(super) const ETHERNET_HEADER: usize = 14;

/// What a frame in a TAP is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The engine's work.
    Work(Origin),
    /// It has woken the lane; its copy is in the ring of arrivals.
    Wake,
    /// Not redirected by our programs; the TAP's own neighbours (such as a capture tool that sends) are ignored.
    Foreign,
}

/// Reads what a frame is there for, and restores the source address that it left with. A frame that arrived keeps an
/// all-zero source address but for the locally administered bit: nobody above the link layer looks at it.
pub(super) fn take(frame: &mut [u8], interface_address: [u8; 6]) -> Purpose {
    let Some(source) = frame.get_mut(..ETHERNET_HEADER).and_then(|header| header[6..].first_chunk_mut::<6>())
    else {
        return Purpose::Foreign;
    };
    if source[..5] != MAGIC {
        return Purpose::Foreign;
    }
    let bits = source[5];
    let (origin, restored) = match bits {
        WIRE => (Origin::Wire, ARRIVED),
        INGRESS => (Origin::Ingress, ARRIVED),
        WAKE => return Purpose::Wake,
        _ if bits & !(OWN | INJECTED) == 0 => {
            (Origin::Egress { own: bits & OWN != 0, injected: bits & INJECTED != 0 }, interface_address)
        }
        _ => return Purpose::Foreign,
    };
    *source = restored;
    Purpose::Work(origin)
}

const ARRIVED: [u8; 6] = [0x02, 0, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bits: u8) -> Vec<u8> {
        let mut frame = vec![0xaa; 60];
        frame[6..11].copy_from_slice(&MAGIC);
        frame[11] = bits;
        frame
    }

    #[test]
    fn restores_the_interface_address_of_leaving_frames() {
        let mut bytes = frame(OWN);
        let own = Purpose::Work(Origin::Egress { own: true, injected: false });
        assert_eq!(take(&mut bytes, [1, 2, 3, 4, 5, 6]), own);
        assert_eq!(bytes[..12], [0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 1, 2, 3, 4, 5, 6]);
        let egress = |injected| Purpose::Work(Origin::Egress { own: false, injected });
        assert_eq!(take(&mut frame(INJECTED), [0; 6]), egress(true));
        assert_eq!(take(&mut frame(0), [0; 6]), egress(false));
    }

    #[test]
    fn tells_esp_from_clear_arrivals() {
        assert_eq!(take(&mut frame(WIRE), [0; 6]), Purpose::Work(Origin::Wire));
        assert_eq!(take(&mut frame(INGRESS), [0; 6]), Purpose::Work(Origin::Ingress));
    }

    #[test]
    fn knows_frames_that_only_wake() {
        assert_eq!(take(&mut frame(WAKE), [0; 6]), Purpose::Wake);
    }

    #[test]
    fn ignores_frames_that_no_program_redirected() {
        assert_eq!(take(&mut [0; 60], [0; 6]), Purpose::Foreign);
        assert_eq!(take(&mut frame(0x40), [0; 6]), Purpose::Foreign);
        assert_eq!(take(&mut frame(WIRE | OWN), [0; 6]), Purpose::Foreign);
        assert_eq!(take(&mut frame(WIRE)[..13], [0; 6]), Purpose::Foreign);
    }
}
