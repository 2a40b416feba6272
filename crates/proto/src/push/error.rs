//! Why a push is not acted upon, and why one could not be made.

use crypto::CipherError;
use crypto::signature::SigningKeyError;

/// Why a push changes nothing. Each variant is one counter: [`PushError::reason`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// No KEK of that name is held.
    #[error("no KEK of that name")]
    UnknownKek,
    /// The datagram ends within the header, or has not the length that the header says.
    #[error("the datagram has not the length that its header says")]
    Truncated,
    /// The header is not that of a push.
    #[error("the header's {0} is not that of a push")]
    Header(&'static str),
    /// The encrypted part is empty or not a whole number of blocks.
    #[error("{0} octets cannot be decrypted")]
    NotDecryptable(usize),
    /// What it decrypts to cannot be read: made with another key, or not made well.
    #[error("malformed after decryption: {0}")]
    Malformed(wire::Error),
    /// A copy of one that was accepted.
    #[error("a copy of an earlier push")]
    Duplicate,
    /// The sequence number is not greater than that of the last push accepted.
    #[error("sequence number {received} after {last}")]
    OldSequence {
        /// The number that came.
        received: u32,
        /// The greatest one accepted under this KEK.
        last: u32,
    },
    /// It comes under a KEK whose successor a PULL has brought since, and does not bring that one along: it is older than
    /// what the PULL told.
    #[error("older than the PULL that brought the successor of its KEK")]
    Superseded,
    /// The signature is not the server's.
    #[error("the signature is wrong")]
    Signature,
    /// It holds an attribute that we do not know and must not read over.
    #[error("unknown attribute {0}")]
    UnknownAttribute(u16),
    /// It is authentic, and its policy is not acceptable for another reason.
    #[error("the policy is not acceptable")]
    Policy,
    /// It deletes an SA that the group does not have.
    #[error("it deletes an SA that is not there")]
    ForeignDelete,
}

impl PushError {
    /// Every reason in the order of [`PushError::index`], with a line for people.
    pub const REASONS: [(&'static str, &'static str); 11] = [
        ("unknown-kek", "the cookies name no KEK that is held"),
        ("truncated", "the datagram has not the length that its header says"),
        ("bad-header", "version, flags, message id or first payload are not those of a push"),
        ("not-decryptable", "the encrypted part is not a whole number of blocks"),
        ("malformed", "what it decrypts to cannot be read"),
        ("duplicate", "a copy of a push that was accepted"),
        ("old-sequence", "older than the last one that was accepted, or than the last registration"),
        ("bad-signature", "the signature is not the server's"),
        ("unknown-attribute", "an attribute that is not known and must not be read over"),
        ("bad-policy", "the policy or its keys are not acceptable"),
        ("foreign-delete", "it deletes an SA that the group does not have"),
    ];

    /// Position of the reason in [`PushError::REASONS`].
    pub const fn index(&self) -> usize {
        match self {
            Self::UnknownKek => 0,
            Self::Truncated => 1,
            Self::Header(_) => 2,
            Self::NotDecryptable(_) => 3,
            Self::Malformed(_) => 4,
            Self::Duplicate => 5,
            Self::OldSequence { .. } | Self::Superseded => 6,
            Self::Signature => 7,
            Self::UnknownAttribute(_) => 8,
            Self::Policy => 9,
            Self::ForeignDelete => 10,
        }
    }

    /// Short name in kebab-case, stable.
    pub const fn reason(&self) -> &'static str {
        Self::REASONS[self.index()].0
    }
}

/// Why a push or an acknowledgement could not be made: never a peer's doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A payload does not fit its length field, or the message no datagram.
    #[error("the push does not fit a datagram: {0}")]
    TooLong(wire::Error),
    /// Key or IV of the KEK are not those of its cipher.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// There is no signature.
    #[error(transparent)]
    Signing(#[from] SigningKeyError),
}

impl From<wire::Error> for SealError {
    fn from(error: wire::Error) -> Self {
        Self::TooLong(error)
    }
}
