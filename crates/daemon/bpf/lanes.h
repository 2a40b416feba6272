/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Which of the daemon's lanes works on a packet. All packets between two addresses, in both directions, fragments and the
 * errors about them included, go by the same one: it keeps their order, and nothing about a flow has to be shared.
 */
#pragma once

#include "packet.h"

/* Set by the daemon when it loads the programs; at least 1. */
const volatile __u32 lanes = 1;

static __always_inline __u32 mix(const __u32 address[4])
{
	__u32 value = 0;

	for (int word = 0; word < 4; word++) {
		value = (value ^ address[word]) * 0x9e3779b1u;
		value ^= value >> 15;
	}
	return value;
}

/* The same for both directions. */
static __always_inline __u32 hash_of(const struct addresses *between)
{
	return mix(between->source) + mix(between->destination);
}

static __always_inline __u32 lane_hash(const struct addresses *between)
{
	/* With one lane there is nothing to choose. */
	return lanes > 1 ? hash_of(between) : 0;
}
