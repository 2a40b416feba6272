//! What the tc programs write into the source address of a frame they redirect to the TAP (`bpf/layout.h`).

use dataplane::Origin;

const MAGIC: [u8; 5] = [0x02, b'g', b'v', b'p', b'n'];
const OWN: u8 = 0x01;
const INJECTED: u8 = 0x02;
const INGRESS: u8 = 0x04;
const WIRE: u8 = 0x08;

/// Octets of an Ethernet header.
pub(super) const ETHERNET_HEADER: usize = 14;

/// Reads where a frame comes from, and restores the source address that it left with. A frame that arrived keeps an
/// all-zero source address but for the locally administered bit: nobody above the link layer looks at it.
///
/// `None`: not redirected by our programs; the TAP's own neighbours (such as a capture tool that sends) are ignored.
pub(super) fn take(frame: &mut [u8], interface_address: [u8; 6]) -> Option<Origin> {
    let source: &mut [u8; 6] = frame.get_mut(..ETHERNET_HEADER)?[6..12].as_mut().try_into().ok()?;
    if source[..5] != MAGIC {
        return None;
    }
    let bits = source[5];
    let (origin, restored) = match bits {
        WIRE => (Origin::Wire, ARRIVED),
        INGRESS => (Origin::Ingress, ARRIVED),
        _ if bits & !(OWN | INJECTED) == 0 => {
            (Origin::Egress { own: bits & OWN != 0, injected: bits & INJECTED != 0 }, interface_address)
        }
        _ => return None,
    };
    *source = restored;
    Some(origin)
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
        assert_eq!(take(&mut bytes, [1, 2, 3, 4, 5, 6]), Some(Origin::Egress { own: true, injected: false }));
        assert_eq!(bytes[..12], [0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 1, 2, 3, 4, 5, 6]);
        assert_eq!(take(&mut frame(INJECTED), [0; 6]), Some(Origin::Egress { own: false, injected: true }));
        assert_eq!(take(&mut frame(0), [0; 6]), Some(Origin::Egress { own: false, injected: false }));
    }

    #[test]
    fn tells_esp_from_clear_arrivals() {
        assert_eq!(take(&mut frame(WIRE), [0; 6]), Some(Origin::Wire));
        assert_eq!(take(&mut frame(INGRESS), [0; 6]), Some(Origin::Ingress));
    }

    #[test]
    fn ignores_frames_that_no_program_redirected() {
        assert_eq!(take(&mut [0; 60], [0; 6]), None);
        assert_eq!(take(&mut frame(0x40), [0; 6]), None);
        assert_eq!(take(&mut frame(WIRE | OWN), [0; 6]), None);
        assert_eq!(take(&mut frame(WIRE)[..13], [0; 6]), None);
    }
}
