//! Dead peer detection (RFC 3706): when to ask, what to count, whom to believe.
//!
//! ```text
//!   HDR*, HASH(1), N(R-U-THERE, sequence number)       -->
//!                                                      <--  HDR*, HASH(1), N(R-U-THERE-ACK, the same number)
//! ```
//!
//! Everything authenticated that arrives proves life. After `interval` without any we ask, every `interval` again, and
//! after `threshold` unanswered questions the peer is dead. Unless `always_send` is set we ask only if we have sent
//! something since the peer was last heard. Each question has the next sequence number; any number that is still
//! unanswered is a valid answer.

use crypto::Random;

use super::settings::DeadPeerDetection;
use crate::time::Instant;

/// What one SA knows about the life of its peer.
#[derive(Debug)]
pub(super) struct Liveness {
    /// `None` if not configured, or if the peer has not announced that it will answer.
    detection: Option<DeadPeerDetection>,
    last_heard: Instant,
    /// When we first sent anything since then.
    sent_since: Option<Instant>,
    /// Unanswered questions, and when the last was asked.
    unanswered: u32,
    last_asked: Instant,
    /// Number of our last question.
    sequence: u32,
    /// Number of the peer's last question.
    peer_sequence: Option<u32>,
}

/// What a question of the peer is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// It proves that the peer is alive.
    New,
    /// The last one once more. A peer that missed our answer may repeat its question as it is, so it is answered
    /// again; but anybody can repeat it, so it proves nothing.
    Repeated,
    /// The number goes back.
    Old,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Ask, with this sequence number.
    Ask(u32),
    /// The peer is dead.
    Dead,
}

impl Liveness {
    pub(super) fn new(now: Instant, detection: Option<DeadPeerDetection>, random: &mut dyn Random) -> Self {
        //= https://www.rfc-editor.org/rfc/rfc3706#section-6.2
        //# The first R-U-THERE message sent in a
        //# session MUST be a randomly chosen number.  To prevent rolling past
        //# overflowing the 32-bit boundary, the high-bit of the sequence number
        //# initially SHOULD be set to zero.
        let mut octets = [0; 4];
        random.fill(&mut octets);
        let sequence = u32::from_be_bytes(octets) >> 1;
        Self {
            detection,
            last_heard: now,
            sent_since: None,
            unanswered: 0,
            last_asked: now,
            sequence,
            peer_sequence: None,
        }
    }

    /// The peer sent something that is authenticated.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.sent_since = None;
        self.unanswered = 0;
    }

    /// We sent something that the peer ought to answer.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent_since.get_or_insert(now);
    }

    /// What a question of the peer is, by its number.
    //= https://www.rfc-editor.org/rfc/rfc3706#section-6.2
    //# Each entity SHOULD also maintain its peer's R-U-THERE sequence
    //# number, and an entity SHOULD reject the R-U-THERE message if it fails
    //# to match the expected sequence number.
    pub(super) fn judge_question(&mut self, sequence: u32) -> Question {
        match self.peer_sequence.replace(sequence).map(|last| (last, sequence.wrapping_sub(last))) {
            None | Some((_, 1..=0x7fff_ffff)) => Question::New,
            Some((_, 0)) => Question::Repeated,
            Some((last, _)) => {
                self.peer_sequence = Some(last);
                Question::Old
            }
        }
    }

    /// Whether this is an answer to a question of ours.
    //= https://www.rfc-editor.org/rfc/rfc3706#section-6.1
    //# The initial sender SHOULD reject the R-U-
    //# THERE-ACK if the sequence number fails to match the one sent with the
    //# R-U-THERE message.
    pub(super) fn is_answer(&self, sequence: u32) -> bool {
        self.sequence.wrapping_sub(sequence) < self.unanswered
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let detection = self.detection?;
        if self.unanswered > 0 {
            Some(self.last_asked + detection.interval)
        } else if detection.always_send {
            Some(self.last_heard + detection.interval)
        } else {
            self.sent_since.map(|sent| sent + detection.interval)
        }
    }

    /// Does what is due at `now`.
    //= https://www.rfc-editor.org/rfc/rfc3706#section-5.4
    //# An
    //# implementation SHOULD retransmit R-U-THERE queries when it fails to
    //# receive an ACK.  After some number of retransmitted messages, an
    //# implementation SHOULD assume its peer to be unreachable and delete
    //# IPSec and IKE SAs to the peer.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        let (Some(detection), Some(deadline)) = (self.detection, self.deadline()) else {
            return Due::Nothing;
        };
        if now < deadline {
            return Due::Nothing;
        }
        if self.unanswered >= detection.threshold.max(1) {
            return Due::Dead;
        }
        self.unanswered += 1;
        self.last_asked = now;
        self.sequence = self.sequence.wrapping_add(1);
        Due::Ask(self.sequence)
    }
}
