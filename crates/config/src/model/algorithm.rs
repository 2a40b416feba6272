//! The algorithm names of the language, as enums.

/// Defines an enum whose variants are words of the language.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word of the language.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }

            /// The value of a word, if it is one.
            pub fn from_word(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// `ike proposal authentication-method`.
    AuthenticationMethod {
        /// Pre-shared keys.
        PreSharedKeys = "pre-shared-keys",
        /// RSA signatures (certificates).
        RsaSignatures = "rsa-signatures",
        /// ECDSA signatures (certificates).
        EcdsaSignatures = "ecdsa-signatures",
        /// DSA signatures (read from configurations that have them; never active).
        DsaSignatures = "dsa-signatures",
    }
}

words! {
    /// `ike proposal authentication-algorithm`: the hash of phase 1.
    IkeHash {
        /// MD5.
        Md5 = "md5",
        /// SHA-1.
        Sha1 = "sha1",
        /// SHA-256.
        Sha256 = "sha-256",
        /// SHA-384.
        Sha384 = "sha-384",
        /// SHA-512.
        Sha512 = "sha-512",
    }
}

words! {
    /// `ike proposal encryption-algorithm`, also the KEK's.
    IkeCipher {
        /// DES-CBC.
        Des = "des-cbc",
        /// Triple-DES-CBC.
        TripleDes = "3des-cbc",
        /// AES-CBC with a 128-bit key.
        Aes128 = "aes-128-cbc",
        /// AES-CBC with a 192-bit key.
        Aes192 = "aes-192-cbc",
        /// AES-CBC with a 256-bit key.
        Aes256 = "aes-256-cbc",
    }
}

words! {
    /// `ike proposal dh-group`.
    DhGroup {
        /// MODP 768.
        Group1 = "group1",
        /// MODP 1024.
        Group2 = "group2",
        /// MODP 1536.
        Group5 = "group5",
        /// MODP 2048.
        Group14 = "group14",
        /// MODP 3072.
        Group15 = "group15",
        /// MODP 4096.
        Group16 = "group16",
        /// ECP 256.
        Group19 = "group19",
        /// ECP 384.
        Group20 = "group20",
        /// ECP 521.
        Group21 = "group21",
        /// MODP 2048 with a 256-bit prime order subgroup.
        Group24 = "group24",
    }
}

impl DhGroup {
    /// The IANA number of the group.
    pub fn number(self) -> u16 {
        match self {
            DhGroup::Group1 => 1,
            DhGroup::Group2 => 2,
            DhGroup::Group5 => 5,
            DhGroup::Group14 => 14,
            DhGroup::Group15 => 15,
            DhGroup::Group16 => 16,
            DhGroup::Group19 => 19,
            DhGroup::Group20 => 20,
            DhGroup::Group21 => 21,
            DhGroup::Group24 => 24,
        }
    }
}

words! {
    /// `ipsec proposal authentication-algorithm`: the ESP integrity algorithm.
    EspIntegrity {
        /// HMAC-MD5-96.
        HmacMd5_96 = "hmac-md5-96",
        /// HMAC-SHA1-96.
        HmacSha1_96 = "hmac-sha1-96",
        /// HMAC-SHA-256-128.
        HmacSha256_128 = "hmac-sha-256-128",
        /// HMAC-SHA-384-192.
        HmacSha384_192 = "hmac-sha-384-192",
        /// HMAC-SHA-512-256.
        HmacSha512_256 = "hmac-sha-512-256",
    }
}

words! {
    /// `ipsec proposal encryption-algorithm`: the ESP cipher.
    EspCipher {
        /// DES-CBC.
        DesCbc = "des-cbc",
        /// Triple-DES-CBC.
        TripleDesCbc = "3des-cbc",
        /// AES-CBC with a 128-bit key.
        Aes128Cbc = "aes-128-cbc",
        /// AES-CBC with a 192-bit key.
        Aes192Cbc = "aes-192-cbc",
        /// AES-CBC with a 256-bit key.
        Aes256Cbc = "aes-256-cbc",
        /// AES-GCM with a 128-bit key and a 16-octet tag.
        Aes128Gcm = "aes-128-gcm",
        /// AES-GCM with a 192-bit key and a 16-octet tag.
        Aes192Gcm = "aes-192-gcm",
        /// AES-GCM with a 256-bit key and a 16-octet tag.
        Aes256Gcm = "aes-256-gcm",
    }
}

impl EspCipher {
    /// Whether the cipher authenticates by itself, so that no integrity algorithm goes with it.
    pub fn is_authenticated(self) -> bool {
        matches!(self, EspCipher::Aes128Gcm | EspCipher::Aes192Gcm | EspCipher::Aes256Gcm)
    }
}

words! {
    /// `server-member-communication sig-hash-algorithm`.
    SignatureHash {
        /// MD5.
        Md5 = "md5",
        /// SHA-1.
        Sha1 = "sha1",
        /// SHA-256.
        Sha256 = "sha-256",
        /// SHA-384.
        Sha384 = "sha-384",
    }
}

words! {
    /// `group signature-algorithm`: the key pair the server makes to sign rekeys.
    SignatureAlgorithm {
        /// RSA, 2048 bits.
        Rsa2048 = "rsa-2048",
        /// RSA, 3072 bits.
        Rsa3072 = "rsa-3072",
        /// ECDSA with P-256.
        Ecdsa256 = "ecdsa-256",
        /// ECDSA with P-384.
        Ecdsa384 = "ecdsa-384",
        /// ECDSA with P-521.
        Ecdsa521 = "ecdsa-521",
    }
}
