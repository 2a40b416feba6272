/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Comparison of packets with the prefixes, SPIs and peers that the daemon published. */
#pragma once

#include "lanes.h"

struct classification {
	bool candidate;
	bool excluded;
	bool destination_on_link;
	bool source_on_link;
	__u64 terms; /* of service filters, that match the addresses */
};

static __always_inline const struct prefix *find_prefix(const struct packet *p, const __u32 *address)
{
	if (p->is_ip6) {
		struct prefix6_key key = { .prefix_length = 32 + 128, .table = p->table };

		__builtin_memcpy(key.address, address, 16);
		return bpf_map_lookup_elem(&prefixes6, &key);
	}

	struct prefix4_key key = { .prefix_length = 32 + 32, .table = p->table, .address = address[0] };

	return bpf_map_lookup_elem(&prefixes4, &key);
}

/* A policy or exclude rule matches as it is written or mirrored. */
static __always_inline void classify(const struct packet *p, const struct addresses *addresses,
				     struct classification *c)
{
	const struct prefix *source = find_prefix(p, addresses->source);
	const struct prefix *destination = find_prefix(p, addresses->destination);

	c->candidate = c->excluded = false;
	c->terms = 0;
	c->source_on_link = source && source->flags & PREFIX_ON_LINK;
	c->destination_on_link = destination && destination->flags & PREFIX_ON_LINK;
	if (!source || !destination)
		return;
	c->candidate = (source->source & destination->destination) | (source->destination & destination->source);
	c->excluded = (source->exclude_source & destination->exclude_destination) |
		      (source->exclude_destination & destination->exclude_source);
	c->terms = source->filter_source & destination->filter_destination;
}

/* The upper layer is further behind than read_packet() looks. */
static __always_inline bool hides_protocol(const struct packet *p)
{
	switch (p->protocol) {
	case 0: case 43: case 44: case 60: case 135: case 139: case 140:
		return p->is_ip6;
	}
	return false;
}

/* A service filter says that the packet passes by the VPN: the first of its terms that matches does. */
static __always_inline bool is_skipped(const struct packet *p, const struct classification *c,
				       const struct interface *interface, __u64 direction)
{
	struct protocol_key key = { .table = p->table, .protocol = p->protocol };
	__u64 matching = c->terms & direction;
	__u64 *named;

	/* ICMP errors are judged by what they quote, as well: by the engine. */
	if (!matching || p->is_error || hides_protocol(p))
		return false;
	named = bpf_map_lookup_elem(&filter_protocols, &key);
	matching &= interface->filter_any | (named ? *named : 0);
	return matching & -matching & interface->filter_skip;
}

static __always_inline bool is_known_spi(__u32 interface, __u32 spi)
{
	struct spi_key key = { .interface = interface, .spi = spi };

	return spi && bpf_map_lookup_elem(&spis, &key);
}

static __always_inline bool is_peer(const struct packet *p, const __u32 *address)
{
	struct peer_key key = {};

	if (p->is_ip6) {
		__builtin_memcpy(key.address, address, 16);
	} else {
		key.address[2] = bpf_htonl(0xffff);
		key.address[3] = address[0];
	}
	return bpf_map_lookup_elem(&peers, &key);
}

/* GDOI or IKE with one of our peers, or within a group's multicast address. `other` is the other end's address. */
static __always_inline bool is_key_management(const struct packet *p, const __u32 *other)
{
	if (p->protocol != PROTOCOL_UDP)
		return false;
	if (p->source_port != PORT_GDOI && p->source_port != PORT_IKE && p->source_port != PORT_IKE_NAT &&
	    p->destination_port != PORT_GDOI && p->destination_port != PORT_IKE && p->destination_port != PORT_IKE_NAT)
		return false;
	return is_peer(p, other);
}

/* A rekey on its way to a group that we send to or listen to. */
static __always_inline bool is_rekey(const struct packet *p)
{
	return p->protocol == PROTOCOL_UDP && p->destination_port == PORT_GDOI && is_multicast(p) &&
	       is_peer(p, p->outer.destination);
}

/* Messages by which the router keeps its links and routes; only meaningful for packets it makes or that are for it. */
static __always_inline bool is_link_control(const struct packet *p)
{
	if (is_link_local_multicast(p))
		return true;
	switch (p->protocol) {
	case PROTOCOL_OSPF:
	case PROTOCOL_VRRP:
		return true;
	case PROTOCOL_PIM:
		return p->type != PIM_REGISTER; /* looked into elsewhere */
	case PROTOCOL_IGMP:
		return !p->is_ip6;
	case PROTOCOL_ICMP6:
		if (!p->is_ip6)
			return false;
		if (p->type >= 133 && p->type <= 137)
			return p->hop_limit == 255;
		return (p->type >= 130 && p->type <= 132) || p->type == 143;
	case PROTOCOL_UDP:
		if (p->is_ip6)
			return (p->source_port == 546 || p->source_port == 547) &&
			       (p->destination_port == 546 || p->destination_port == 547);
		return (p->source_port == 67 || p->source_port == 68) &&
		       (p->destination_port == 67 || p->destination_port == 68);
	}
	return false;
}

/* Sends the frame to the TAP, with what the daemon is to know of it. Where the TAP is gone, the kernel drops the frame. */
static __always_inline int to_tap(struct __sk_buff *skb, const struct interface *interface, const struct addresses *between,
				  __u8 metadata)
{
	__u8 source[ETH_ALEN] = { METADATA_MAGIC_0, METADATA_MAGIC_1, METADATA_MAGIC_2,
				  METADATA_MAGIC_3, METADATA_MAGIC_4, metadata };

	/* gvpn_lane reads it. */
	if (lanes > 1)
		bpf_set_hash(skb, lane_hash(between));
	if (bpf_skb_store_bytes(skb, ETH_ALEN, source, sizeof(source), 0) < 0)
		return TC_ACT_SHOT;
	return bpf_redirect(interface->tap, 0);
}

/* Hands the frame to the engine. */
static __always_inline int to_engine(struct __sk_buff *skb, const struct interface *interface, const struct packet *p,
				     __u8 metadata, enum counter counter)
{
	count(skb->ifindex, counter);
	return to_tap(skb, interface, p->is_error ? &p->quoted : &p->outer, metadata);
}
