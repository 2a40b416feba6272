/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the programs and the daemon agree on. src/datapath/marks.rs, metadata.rs and maps.rs mirror this file.
 *
 * These programs are dual-licensed because the kernel lends bpf_fib_lookup() to GPL-compatible programs only.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

/* Socket-buffer marks. They are compared whole; no two are equal. */
#define MARK_TX 0x67760001      /* ESP made by the engine, where it leaves through a queueing discipline */
#define MARK_INJECT 0x67760002  /* decrypted by the engine, entering */
#define MARK_CLEAR 0x67760003   /* judged by the engine to leave in clear */
#define MARK_CONTROL 0x67760004 /* the daemon's own UDP sockets */

/* What a redirected frame carries in the six octets of its Ethernet source address. */
#define METADATA_MAGIC_0 0x02 /* locally administered, unicast */
#define METADATA_MAGIC_1 'g'
#define METADATA_MAGIC_2 'v'
#define METADATA_MAGIC_3 'p'
#define METADATA_MAGIC_4 'n'
#define METADATA_OWN 0x01      /* leaving; made by this machine */
#define METADATA_INJECTED 0x02 /* leaving; decrypted before */
#define METADATA_INGRESS 0x04  /* arrived in clear, would go inward */
#define METADATA_WIRE 0x08     /* arrived: ESP, an ESP fragment, an ICMP error that quotes our ESP */
#define METADATA_WAKE 0x10     /* nothing: what arrived is in the ring buffer, and its lane slept */

/* struct interface.flags */
#define INTERFACE_ALL_LEAVING 0x1  /* every forwarded packet that leaves goes to the engine */
#define INTERFACE_ALL_ARRIVING 0x2 /* every clear packet that would go inward goes to the engine */

struct interface {
	__u32 tap;   /* kernel index of the TAP that leads to the engine */
	__u32 table; /* generation of its prefixes */
	__u32 flags;
	__u32 wires; /* its first slot among the AF_XDP sockets, plus one; 0: none */
	__u64 filter_any;  /* terms of its service filters that match every protocol */
	__u64 filter_skip; /* terms whose packets pass in clear */
};

/* Terms of service filters, in order from the lowest bit: for packets that leave, and for those that arrive. */
#define FILTER_LEAVING 0x00000000ffffffffULL
#define FILTER_ARRIVING 0xffffffff00000000ULL

struct protocol_key {
	__u32 table;
	__u32 protocol;
};

/* AF_XDP sockets of an interface: one for each receive queue; frames of further queues take the other way. */
#define QUEUES_PER_INTERFACE 16

/* Longest-prefix-match keys: the table's number is always matched in full, then the address. */
struct prefix4_key {
	__u32 prefix_length; /* 32 + prefix length */
	__u32 table;
	__u32 address;
};

struct prefix6_key {
	__u32 prefix_length;
	__u32 table;
	__u32 address[4];
};

#define PREFIX_ON_LINK 0x1

/*
 * Bit i is set in `source` if policy i (modulo 64) has a source that covers the prefix. A packet is a candidate if one
 * policy covers both of its addresses. Exact up to 64 policies, a superset beyond: the engine judges exactly.
 * The exclude masks have no more than 64 rules, so they are always exact.
 */
struct prefix {
	__u64 source;
	__u64 destination;
	__u64 exclude_source;
	__u64 exclude_destination;
	__u64 flags;
	__u64 filter_source; /* terms of service filters; neither mirrored nor shared */
	__u64 filter_destination;
};

struct spi_key {
	__u32 interface;
	__u32 spi; /* network order */
};

struct peer_key {
	__u32 address[4]; /* IPv4 as ::ffff:a.b.c.d */
};

/*
 * A frame in the ring buffer that leads to the engine. Three sizes of record, so that small frames stay close together; the
 * TAP takes what is longer.
 */
struct arrival {
	__u32 interface; /* kernel index of the external interface */
	__u32 length;    /* octets of the frame, from its Ethernet header */
	__u8 frame[];
};

/* Threads of the daemon that serve packets; each has a ring buffer, and a queue of every TAP. */
#define MOST_LANES 16

/* A line of its own for each lane. The lane says that it is awake, or sleeps and is to be woken. */
struct sleeper {
	__u64 state;
	__u64 rest[7];
};

#define LANE_AWAKE 0
#define LANE_SLEEPS 1
#define LANE_CALLED 2 /* from here on: when it was called, in ticks of the timer */

/* Ticks after which a lane that still sleeps is called again. */
#define CALL_AGAIN 2

#define ARRIVALS_OCTETS (1 << 22)
#define SMALL_ARRIVAL 240
#define USUAL_ARRIVAL 1584
#define LARGE_ARRIVAL 9712

enum counter {
	COUNTER_LEAVING_TO_ENGINE,
	COUNTER_ARRIVING_TO_ENGINE,
	COUNTER_ESP_TO_ENGINE,
	COUNTER_EXCLUDED,
	COUNTER_TRANSIT,
	COUNTER_TRANSIT_ESP,
	COUNTER_OTHER_PROTOCOL_DROPPED,
	COUNTER_REGISTER_TO_ENGINE,
	COUNTER_UNREADABLE_DROPPED,
	COUNTER_RING_FULL_DROPPED,
	COUNTER_COUNT
};

struct counters {
	__u64 packets[COUNTER_COUNT];
};
