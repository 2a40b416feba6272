/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Reading of packets. All but plain ESP is loaded by bpf_skb_load_bytes(), which works on any layout of the socket buffer.
 */
#pragma once

#include "maps.h"
#include <bpf/bpf_endian.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>

#define PROTOCOL_HOP_BY_HOP 0
#define PROTOCOL_ICMP 1
#define PROTOCOL_IGMP 2
#define PROTOCOL_UDP 17
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_ESP 50
#define PROTOCOL_ICMP6 58
#define PROTOCOL_OSPF 89
#define PROTOCOL_PIM 103
#define PROTOCOL_VRRP 112

/* Version 2, type 1; octets of its header, and of the longest without data: an IPv6 header and an empty PIM header. */
#define PIM_REGISTER 0x21
#define REGISTER_LENGTH 8
#define LONGEST_NULL_REGISTER (REGISTER_LENGTH + 40 + 8)

#define PORT_GDOI 848
#define PORT_IKE 500
#define PORT_IKE_NAT 4500

struct addresses {
	__u32 source[4]; /* IPv4 in the first word */
	__u32 destination[4];
};

struct packet {
	struct addresses outer;
	struct addresses quoted; /* of the packet an ICMP error quotes, if is_error */
	__u32 table;
	__u32 spi; /* ESP, or quoted ESP if is_error; network order; 0: none read */
	__u16 transport; /* offset of the transport header */
	__u16 source_port, destination_port;
	__u8 protocol;
	__u8 quoted_protocol;
	__u8 type; /* of ICMP and PIM messages */
	__u8 hop_limit;
	__u8 tos;
	bool is_ip6;
	bool is_fragment;       /* any fragment */
	bool is_later_fragment; /* not the first: no transport header */
	bool is_error;          /* ICMP error with a readable quotation */
};

static __always_inline bool is_multicast(const struct packet *p)
{
	__u8 first = p->outer.destination[0] & bpf_htonl(0xff000000) ? *(const __u8 *)p->outer.destination : 0;

	return p->is_ip6 ? first == 0xff : first >= 0xe0;
}

/* 224.0.0.0/24, ff02::/16: never forwarded by anyone. */
static __always_inline bool is_link_local_multicast(const struct packet *p)
{
	if (p->is_ip6)
		return (p->outer.destination[0] & bpf_htonl(0xffff0000)) == bpf_htonl(0xff020000);
	return (p->outer.destination[0] & bpf_htonl(0xffffff00)) == bpf_htonl(0xe0000000);
}

static __always_inline bool is_icmp_error(const struct packet *p)
{
	if (p->is_ip6)
		return p->protocol == PROTOCOL_ICMP6 && p->type >= 1 && p->type <= 4;
	return p->protocol == PROTOCOL_ICMP &&
	       (p->type == 3 || p->type == 4 || p->type == 5 || p->type == 11 || p->type == 12);
}

static __always_inline void read_quotation(struct __sk_buff *skb, struct packet *p)
{
	__u32 at = p->transport + 8;

	if (p->is_ip6) {
		struct ipv6hdr inner;

		if (bpf_skb_load_bytes(skb, at, &inner, sizeof(inner)) < 0 || inner.version != 6)
			return;
		__builtin_memcpy(p->quoted.source, &inner.saddr, 16);
		__builtin_memcpy(p->quoted.destination, &inner.daddr, 16);
		p->quoted_protocol = inner.nexthdr;
		at += sizeof(inner);
	} else {
		struct iphdr inner;

		if (bpf_skb_load_bytes(skb, at, &inner, sizeof(inner)) < 0 || inner.version != 4 || inner.ihl < 5)
			return;
		p->quoted.source[0] = inner.saddr;
		p->quoted.destination[0] = inner.daddr;
		p->quoted_protocol = inner.protocol;
		if (inner.frag_off & bpf_htons(0x1fff))
			p->quoted_protocol = 255; /* no transport header is quoted */
		at += inner.ihl * 4;
	}
	p->is_error = true;
	if (p->quoted_protocol == PROTOCOL_ESP && bpf_skb_load_bytes(skb, at, &p->spi, 4) < 0)
		p->spi = 0;
}

/* Ports, SPI, types and quotations, where the packet has them. A short packet leaves them zero. */
static __always_inline void read_transport(struct __sk_buff *skb, struct packet *p)
{
	__u16 ports[2];
	__u8 type;

	if (p->is_later_fragment)
		return;
	switch (p->protocol) {
	case PROTOCOL_ESP:
		if (bpf_skb_load_bytes(skb, p->transport, &p->spi, 4) < 0)
			p->spi = 0;
		break;
	case PROTOCOL_UDP:
		if (bpf_skb_load_bytes(skb, p->transport, ports, sizeof(ports)) == 0) {
			p->source_port = bpf_ntohs(ports[0]);
			p->destination_port = bpf_ntohs(ports[1]);
		}
		break;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMP6:
	case PROTOCOL_PIM:
		if (bpf_skb_load_bytes(skb, p->transport, &type, 1) == 0) {
			p->type = type;
			if (is_icmp_error(p))
				read_quotation(skb, p);
		}
		break;
	}
}

/* False: not a readable IP packet. */
static __always_inline bool read_packet(struct __sk_buff *skb, struct packet *p)
{
	__builtin_memset(p, 0, sizeof(*p));
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;
		__u16 fragment;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0 || ip.version != 4 || ip.ihl < 5)
			return false;
		p->outer.source[0] = ip.saddr;
		p->outer.destination[0] = ip.daddr;
		p->protocol = ip.protocol;
		p->hop_limit = ip.ttl;
		p->tos = ip.tos;
		p->transport = ETH_HLEN + ip.ihl * 4;
		fragment = bpf_ntohs(ip.frag_off);
		p->is_fragment = fragment & 0x3fff;
		p->is_later_fragment = fragment & 0x1fff;
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0 || ip.version != 6)
			return false;
		p->is_ip6 = true;
		__builtin_memcpy(p->outer.source, &ip.saddr, 16);
		__builtin_memcpy(p->outer.destination, &ip.daddr, 16);
		p->protocol = ip.nexthdr;
		p->hop_limit = ip.hop_limit;
		p->tos = (ip.priority << 4) | (ip.flow_lbl[0] >> 4);
		p->transport = ETH_HLEN + sizeof(ip);
		/* The router's own messages have at most a router alert before them; MLD always does. */
		if (p->protocol == PROTOCOL_HOP_BY_HOP) {
			__u8 extension[2];

			if (bpf_skb_load_bytes(skb, p->transport, extension, 2) < 0)
				return false;
			p->protocol = extension[0];
			p->transport += (extension[1] + 1) * 8;
		}
		if (p->protocol == PROTOCOL_FRAGMENT) {
			__u8 header[4];
			__u16 fragment;

			if (bpf_skb_load_bytes(skb, p->transport, header, 4) < 0)
				return false;
			p->protocol = header[0];
			fragment = header[2] << 8 | header[3];
			p->is_fragment = true;
			p->is_later_fragment = fragment & 0xfff8;
			p->transport += 8;
		}
	}
	read_transport(skb, p);
	return true;
}

/*
 * The short way for what there is most of: ESP right behind a plain IP header, read in place. False: anything else, or not
 * there in one piece; `p` is then undefined. Fields that say nothing about ESP stay zero.
 */
static __always_inline bool read_esp(void *data, void *end, struct packet *p)
{
	struct ethhdr *ethernet = data;
	__u16 fragment;

	__builtin_memset(p, 0, sizeof(*p));
	if ((void *)(ethernet + 1) > end)
		return false;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != PROTOCOL_ESP)
			return false;
		p->outer.source[0] = ip->saddr;
		p->outer.destination[0] = ip->daddr;
		p->tos = ip->tos;
		fragment = bpf_ntohs(ip->frag_off);
		p->is_fragment = fragment & 0x3fff;
		p->is_later_fragment = fragment & 0x1fff;
		data = ip + 1;
	} else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end || ip->version != 6 || ip->nexthdr != PROTOCOL_ESP)
			return false;
		p->is_ip6 = true;
		__builtin_memcpy(p->outer.source, &ip->saddr, 16);
		__builtin_memcpy(p->outer.destination, &ip->daddr, 16);
		p->tos = (ip->priority << 4) | (ip->flow_lbl[0] >> 4);
		data = ip + 1;
	} else {
		return false;
	}
	p->protocol = PROTOCOL_ESP;
	if (!p->is_later_fragment) {
		if (data + 4 > end)
			return false;
		p->spi = *(__u32 *)data;
	}
	return true;
}
