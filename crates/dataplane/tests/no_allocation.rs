//! Between packet in and packet out nothing is allocated, once the buffers have grown to the batches' size.
#![allow(unsafe_code)] // a global allocator, which only counts

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use dataplane::*;
use support::*;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer is from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_per_packet_after_the_first_batches() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let mut sender = engine();
    let mut receiver = engine();
    let (mut sent, mut received) = (FrameBuffer::new(), FrameBuffer::new());
    let mut large = Packet::udp("31.1.1.2", "41.1.1.2", (9, 9), &[1; 4000]);
    large.dont_fragment = true;
    let batch = |round: u32| -> Vec<Vec<u8>> {
        let segment =
            |at: u32| Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((1, 2), at * 1000), &[3; 1000]);
        let mut packets: Vec<_> = (0..20).map(segment).collect();
        // New flows all the time, fragments, packets too big, in clear, and dropped.
        packets.push(Packet::udp(&format!("31.1.1.{round}"), "41.1.1.3", (round as u16, 5), &[4; 3000]));
        packets.push(Packet { more_fragments: true, ..packets[0].clone() });
        packets.push(large.clone());
        packets.push(Packet::udp("1.1.1.1", "41.1.1.3", (5, round as u16), &[4; 30]));
        packets.iter().map(Packet::frame).collect()
    };
    let mut allocations = Vec::new();
    for round in 0..20 {
        let frames = batch(round);
        let input: Vec<FrameIn<'_>> = frames
            .iter()
            .map(|bytes| FrameIn {
                interface: WAN,
                origin: OWN_FORWARDED,
                vnet: VnetHeader::default(),
                bytes,
            })
            .collect();
        sent.clear();
        received.clear();
        let before = ALLOCATIONS.get();
        sender.process(at(round.into()), &tables, &input, &mut sent);
        let between = ALLOCATIONS.get();
        let wires: Vec<FrameIn<'_>> = sent
            .iter()
            .filter(|out| out.destination == Destination::WireEsp)
            .map(|out| FrameIn { interface: WAN, origin: Origin::Wire, vnet: out.vnet, bytes: out.bytes() })
            .collect();
        let built = ALLOCATIONS.get();
        receiver.process(at(round.into()), &tables, &wires, &mut received);
        allocations.push((between - before, ALLOCATIONS.get() - built));
        // Twenty segments, three fragments, and the fragment; the segments come out as one.
        assert_eq!((wires.len(), received.len()), (24, 5));
    }
    assert_eq!(allocations[10..], [(0, 0); 10], "{allocations:?}");
}
